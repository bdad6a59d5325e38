"""Questions over many documents that need several of them in turn, after BrowseComp-Plus.

The documents are about made-up people, towns, prizes and companies: a sentence of each states a fact, and real text around it takes up
space. A question follows four facts. The documents are the context, or a tool fetches them and the context is a list of their titles.
https://arxiv.org/abs/2508.06600
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from dspy_rlm.tasks import scoring
from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.generators.words import ADJECTIVES, FIRST_NAMES, NOUNS, made_up_names
from dspy_rlm.tasks.library import prose
from dspy_rlm.tasks.task import Form, Item

DOCUMENT_CHARS = 4_000
_INSTRUCTIONS = (
    "Answer the question from the documents. Each fact that it needs is in a document of its own."
)
_ANSWER = "the name that the question asks for, nothing else"

READ = Form(
    str,
    f"The context has documents, each below a line with its ID and title. {_INSTRUCTIONS}",
    _ANSWER,
    scoring.same_words,
    scoring.contains,
)
FETCH = Form(
    str,
    "The context is a list of the IDs and titles of documents; the function `fetch` returns the text of a document by its ID. "
    f"{_INSTRUCTIONS}",
    _ANSWER,
    scoring.same_words,
    scoring.contains,
)


@dataclass(frozen=True)
class Document:
    """A document of the corpus."""

    id: str
    title: str
    text: str


@dataclass(frozen=True)
class World:
    """Facts: a prize and a year have a winner, people were born in towns, towns have companies, companies have founders."""

    winners: Mapping[tuple[str, int], str]
    towns: Mapping[str, str]
    companies: Mapping[str, str]
    founders: Mapping[str, str]


_WON = "In {year}, the {prize} went to {person}."
_BORN = "{person} was born in {town} and left it at the age of {age}."
_COMPANY = "The largest employer of {town} is {company}."
_FOUNDED = "{company} was founded by {person} in a rented garage."
_QUESTION = "Who founded the largest employer of the town in which the winner of the {prize} of {year} was born? Give the full name."


def corpus(draws: Draws, chars: int) -> tuple[World, list[Document]]:
    """Returns facts, and the documents that state them, of about `chars` characters together."""
    chains = max(3, chars // DOCUMENT_CHARS // 4)
    names = made_up_names(draws, 4 * chains)
    first = [draws.choice(FIRST_NAMES) for _ in range(2 * chains)]
    people = [f"{name} {names[at]}" for at, name in enumerate(first)]
    winners, founders = people[:chains], people[chains:]
    towns, firms = names[2 * chains : 3 * chains], names[3 * chains :]
    companies = [
        f"{name} {draws.choice(('Mills', 'Foundry', 'Instruments', 'Shipping'))}" for name in firms
    ]
    prizes = [
        (f"{draws.choice(ADJECTIVES)} {draws.choice(NOUNS)} prize".title(), 1900 + at)
        for at in range(chains)
    ]
    world = World(
        dict(zip(prizes, winners, strict=True)),
        dict(zip(winners, towns, strict=True)),
        dict(zip(towns, companies, strict=True)),
        dict(zip(companies, founders, strict=True)),
    )
    return world, list(_documents(draws, world, chars // (4 * chains)))


def _documents(draws: Draws, world: World, chars: int) -> Iterator[Document]:
    facts = [
        *(
            (f"{prize} {year}", _WON.format(prize=prize, year=year, person=person))
            for (prize, year), person in world.winners.items()
        ),
        *(
            (person, _BORN.format(person=person, town=town, age=draws.between(14, 30)))
            for person, town in world.towns.items()
        ),
        *(
            (town, _COMPANY.format(town=town, company=firm))
            for town, firm in world.companies.items()
        ),
        *(
            (firm, _FOUNDED.format(company=firm, person=person))
            for firm, person in world.founders.items()
        ),
    ]
    draws.shuffle(facts)
    filler = prose(draws)
    for number, (title, fact) in enumerate(facts, 1):
        yield Document(
            f"doc-{number:06}", title, _text(draws, filler, fact, chars - len(title) - 24)
        )


def _text(draws: Draws, filler: Iterator[str], fact: str, chars: int) -> str:
    paragraphs: list[str] = []
    left = chars - len(fact)
    while left > 0:
        paragraph = next(filler)[: max(left, 40)]
        paragraphs.append(paragraph)
        left -= len(paragraph) + 1
    paragraphs.insert(draws.below(len(paragraphs) + 1), fact)
    return "\n".join(paragraphs)


def items(
    draws: Draws, world: World, context: str, n: int, name: str, documents: int
) -> Iterator[Item]:
    """Yields the items: each about a different prize, over the same documents."""
    prizes = draws.stream("questions").sample(tuple(world.winners), min(n, len(world.winners)))
    for at in range(n):
        prize, year = prizes[at % len(prizes)]
        company = world.companies[world.towns[world.winners[prize, year]]]
        question = _QUESTION.format(prize=prize, year=year)
        counts = {"documents": documents}
        yield Item(f"{name}-{at}", context, question, world.founders[company], counts)


_HEADING = "######## DOCUMENT {id}: {title} ########"


def text_of(documents: Sequence[Document]) -> str:
    """Returns the context with all documents."""
    return "\n\n".join(
        f"{_HEADING.format(id=document.id, title=document.title)}\n{document.text}"
        for document in documents
    )


def titles_of(documents: Sequence[Document]) -> str:
    """Returns the context with the IDs and titles only."""
    return "\n".join(f"{document.id}: {document.title}" for document in documents)


def fetcher(documents: Sequence[Document]) -> Callable[[str], str]:
    """Returns the tool that a system fetches documents with."""
    texts = {document.id: document.text for document in documents}

    def fetch(id: str) -> str:
        """Returns the text of a document by its ID, such as `doc-000017`."""
        if id not in texts:
            raise KeyError(f"no document {id!r}")
        return texts[id]

    return fetch


def solve(context: str, question: str) -> str:
    """Returns the answer by four searches, each for what the one before found."""
    ((prize, year),) = re.findall(r"winner of the (.+) of (\d{4}) was", question)
    person = _find(rf"In {year}, the {prize} went to (.+?)\.", context)
    town = _find(rf"^{person} was born in (\w+) and", context)
    company = _find(rf"largest employer of {town} is (.+?)\.", context)
    return _find(rf"^{company} was founded by (.+?) in", context)


def _find(pattern: str, context: str) -> str:
    (found,) = set(re.findall(pattern, context, re.MULTILINE))
    return str(found)
