"""Lines with a date, a user and a question, each of one kind that the text does not say: the data of the OOLONG tasks.

The form is that of OOLONG's `trec_coarse` split, whose questions come from TREC; these come from templates. A kind cannot be told by the
first word: "What" begins questions of all kinds. How often each kind comes is random and never balanced.
https://arxiv.org/abs/2511.02817
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.generators.words import ADJECTIVES, FIRST_NAMES, NOUNS, listed

ABBREVIATION = "abbreviation"
DESCRIPTION = "description and abstract concept"
ENTITY = "entity"
HUMAN = "human being"
LOCATION = "location"
NUMBER = "numeric value"
LABELS = (DESCRIPTION, ENTITY, HUMAN, NUMBER, LOCATION, ABBREVIATION)

# As many users as the published inputs have: 34,191 pairs. More would make millions of pairs of a long text.
MOST_USERS = 262

FIRST_DAY = date(2022, 11, 1)
DAYS = 240
_MONTHS = listed("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec")

HEADER = (
    "The following lines contain questions, one per line, each with its date and the ID of the user who asked it. Each question has "
    f"exactly one of these labels, which the data does not show: {', '.join(LABELS)}.\n\n"
)

_WORDS: Mapping[str, Sequence[str]] = {
    "adjective": ADJECTIVES,
    "noun": NOUNS,
    "person": FIRST_NAMES,
    "letters": tuple(a + b + c for a in "BCDFGKLM" for b in "AEIORST" for c in "BCDLMNPQRSTUVXYZ"),
    "animal": listed(
        "badgers bats bears bees beetles camels cranes crows dolphins eagles foxes frogs geese goats hares herons horses "
        "lizards moles moths otters owls rabbits seals snails swans toads trout turtles whales wolves"
    ),
    "trade": listed(
        "architect astronomer baker carpenter chemist composer dancer engraver explorer geologist inventor "
        "jeweler novelist painter photographer pilot poet sailor sculptor surgeon"
    ),
    "art": listed("ballad film mural novel opera play poem song statue symphony"),
    "town": listed(
        "Alder Briar Cedar Dunmore Elmford Fernhill Glenrock Harwick Inglewood Juniper Kelso Larkspur Milbury "
        "Northgate Oakridge Pinecrest Quarley Redfield Stonebrook Thornby Upwell Verity Westbay Yarrow"
    ),
    "process": listed(
        "acid rain|aging|blushing|corrosion|deja vu|dizziness|echoes|erosion|fatigue|fever|fog|frost|hiccups|hunger|"
        "inflation|jet lag|lightning|mirages|rust|static|tides|yawning",
        "|",
    ),
    "device": listed(
        "a barometer|a battery|a camera|a compass|a dynamo|a fridge|a gyroscope|a jet engine|a laser|a loom|a magnet|"
        "a microscope|a piano|a pulley|a radio|a sextant|a siphon|a telescope|a turbine|a zipper",
        "|",
    ),
}

TEMPLATES: Mapping[str, Sequence[str]] = {
    ABBREVIATION: (
        "What does {letters} stand for ?",
        "What is the full form of {letters} ?",
        "{letters} is an acronym for what ?",
        "What do the letters {letters} mean on a {adjective} {noun} ?",
    ),
    DESCRIPTION: (
        "What causes {process} near a {adjective} {noun} ?",
        "Why do {animal} avoid a {adjective} {noun} ?",
        "How does {device} work without a {noun} ?",
        "What is the purpose of a {adjective} {noun} in {device} ?",
        "What does it mean to carry a {adjective} {noun} ?",
    ),
    ENTITY: (
        "What color is a {adjective} {noun} ?",
        "What {art} mentions a {adjective} {noun} ?",
        "Which animal is feared by {animal} near a {noun} ?",
        "What kind of wood makes a {adjective} {noun} ?",
        "What instrument did {person} play beside the {adjective} {noun} ?",
    ),
    HUMAN: (
        "Who designed the {adjective} {noun} ?",
        "What is the name of the {trade} who sold a {adjective} {noun} ?",
        "Which {trade} wrote the {art} `` The {adjective} {noun} '' ?",
        "Who was the first {trade} to draw {animal} ?",
        "What {trade} taught {person} to make a {noun} ?",
    ),
    LOCATION: (
        "Where was the {adjective} {noun} found ?",
        "What town is known for its {adjective} {noun} ?",
        "In what country did the {trade} {person} retire ?",
        "What river runs from {town} to the {adjective} {noun} ?",
        "Which city hosts the {art} festival of the {adjective} {noun} ?",
    ),
    NUMBER: (
        "How many {animal} fit into a {adjective} {noun} ?",
        "What year did the {trade} {person} move to {town} ?",
        "What is the weight of a {adjective} {noun} ?",
        "How far is {town} from the {adjective} {noun} ?",
        "What is the average age of {animal} in {town} ?",
    ),
}


@dataclass(frozen=True)
class Line:
    """One line, with the label that the text does not show."""

    day: date
    user: int
    text: str
    label: str

    def __str__(self) -> str:
        return f"Date: {day_text(self.day)} || User: {self.user} || Instance: {self.text}"


def day_text(day: date) -> str:
    """Returns a date as the lines have it, such as `Jan 06, 2023`."""
    return f"{_MONTHS[day.month - 1]} {day.day:02}, {day.year}"


def day_of(text: str) -> date:
    """Returns the date of a text such as `Jan 06, 2023`."""
    month, day, year = text.replace(",", "").split()
    return date(int(year), _MONTHS.index(month) + 1, int(day))


def lines(draws: Draws, chars: int, users: int | None = None) -> list[Line]:
    """Returns lines in the order of their dates, about `chars` characters with the header.

    No two labels are equally frequent. Each user has a line at least.

    Args:
        draws: The draws that decide on everything.
        chars: The length of the text.
        users: The number of users; None: a sixth of the lines, at most `MOST_USERS`.
    """
    weights = draws.sample((3, 5, 8, 12, 17, 23), len(LABELS))
    found: list[Line] = []
    left = chars - len(HEADER)
    pool = _users(draws, min(max(8, left // 500), MOST_USERS) if users is None else users)
    while left > 0:
        # The first lines make sure that no user is missing.
        user = pool[len(found)] if len(found) < len(pool) else draws.choice(pool)
        label = draws.weighted(LABELS, weights)
        day = FIRST_DAY + timedelta(days=draws.below(DAYS))
        line = Line(day, user, _question(draws, label), label)
        found.append(line)
        left -= len(str(line)) + 1
    _break_ties(draws, found)
    found.sort(key=lambda line: (line.day, line.user, line.text))
    return found


def _users(draws: Draws, count: int) -> list[int]:
    found: dict[int, None] = {}
    while len(found) < count:
        found[draws.between(10_000, 99_999)] = None
    return list(found)


def _question(draws: Draws, label: str) -> str:
    template = draws.choice(TEMPLATES[label])
    return re.sub(r"\{(\w+)\}", lambda slot: draws.choice(_WORDS[slot[1]]), template)


def _break_ties(draws: Draws, found: list[Line]) -> None:
    """Changes single lines until no two labels are equally frequent."""
    counts = counts_of(found)
    while len(set(counts.values())) < len(LABELS):
        at = draws.below(len(found))
        label = max(LABELS, key=lambda name: (counts[name], name))
        line = found[at]
        if line.label != label:
            found[at] = Line(line.day, line.user, _question(draws, label), label)
            counts = counts_of(found)


def counts_of(found: Sequence[Line]) -> dict[str, int]:
    """Returns how many lines have each label."""
    counts = dict.fromkeys(LABELS, 0)
    for line in found:
        counts[line.label] += 1
    return counts


def text_of(found: Sequence[Line]) -> str:
    """Returns the context: the header and the lines."""
    return HEADER + "\n".join(map(str, found))


# ---- The second way: the labels read from the text ----


@functools.cache
def _patterns() -> Sequence[tuple[re.Pattern[str], str]]:
    return [
        (re.compile(re.sub(r"\\\{\w+\\\}", "(.+?)", re.escape(template))), label)
        for label, templates in TEMPLATES.items()
        for template in templates
    ]


def label_of(question: str) -> str:
    """Returns the label of a question by its form: the understanding that the task asks for."""
    found = {label for pattern, label in _patterns() if pattern.fullmatch(question)}
    if len(found) != 1:
        raise ValueError(f"No single label fits this question: {question!r}")
    return found.pop()


_LINE = re.compile(r"^Date: (.+?) \|\| User: (\d+) \|\| Instance: (.+)$", re.MULTILINE)


def read(context: str) -> Iterator[Line]:
    """Yields the lines of a context, each with the label of its question."""
    for day, user, question in _LINE.findall(context):
        yield Line(day_of(day), int(user), question, label_of(question))
