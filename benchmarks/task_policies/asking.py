"""Ways to fail of policies that ask a sub-LM: a call for each line, the same prompts again, parts that end in the middle of a line.

They differ from the honest policy in how they ask, and in nothing else: what they do with the answers are the honest policy's own cells.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.task_policies.honest import CELLS, CHUNKS, Moves, Script
from dspy_rlm.testing import Action, Task

# The length of a part that is cut without a look at where it ends.
PART = 20_000


@dataclass(frozen=True)
class Asking:
    """The cells with which a task is asked about. Those that ask follow those with prompts, and turn `prompts` into `answers`."""

    units: str
    """Sets `prompts`, one for each line, paragraph or function."""
    of_units: str
    """Reads the answers to these, of which the last may be missing."""
    wholes: str
    """Sets `prompts` for whole lines, paragraphs or files, as many as fit into one."""
    of_wholes: str
    parts: str
    """Sets `prompts` for parts of equal length."""
    of_parts: str
    end: tuple[str, ...]
    """The cells that compute the answer and submit it."""


_LINES = """import re
from collections import Counter, defaultdict
lines = [line for line in context.split("\\n") if line.startswith("Date: ")]
"""
_LABEL = 'ask = "Label each of these lines. Answer with its number, a colon and its label.\\n\\n"\n'
_LABELS = """label = defaultdict(lambda: "unknown")
for answer in answers:
    label.update((int(number), name) for number, name in re.findall(r"^(\\d+): (.+)$", answer, re.MULTILINE))
print(len(lines), "lines,", len(label), "labels")"""

_PARTS = f"""import re
from collections import Counter, defaultdict
parts = [context[start:start + {PART:_}] for start in range(0, len(context), {PART:_})]
"""


def _of_lines(name: str) -> Asking:
    return Asking(
        units=_LINES
        + 'prompts = ["Label this question: " + line.split("Instance: ")[1] for line in lines]\n',
        of_units="""label = defaultdict(lambda: "unknown", enumerate(answers))
print(len(lines), "lines,", len(label), "labels")""",
        wholes=_LINES
        + CHUNKS
        + _LABEL
        + """numbered = [f"{number}) {line}" for number, line in enumerate(lines)]
prompts = [ask + "\\n".join(part) for part in chunks(numbered)]
""",
        of_wholes=_LABELS,
        # Beginnings of lines are no questions, and their ends have no date: both are lost.
        parts=_PARTS
        + _LABEL
        + """lines, prompts = [], []
for part in parts:
    first = len(lines)
    lines += part.split("\\n")
    prompts.append(ask + "\\n".join(f"{n}) {lines[n]}" for n in range(first, len(lines))))
""",
        of_parts=_LABELS
        + """
whole = [n for n in range(len(lines)) if re.match(r"Date: .{12} \\|\\| User: \\d+ \\|\\|", lines[n])]
label = defaultdict(lambda: "unknown", {at: label[n] for at, n in enumerate(whole)})
lines = [lines[n] for n in whole]""",
        end=CELLS[name][1:],
    )


_VISITOR = """city = re.search(r" to (.+)\\?", question)[1]
ask = f"Which person of this text has certainly been to {city}? Answer with the first name, or: nobody\\n\\n"
"""
_FIRST = 'names = [answer for answer in answers if answer not in ("nobody", "none")]\nprint(len(answers), names)'
_SUBMIT_FIRST = ("SUBMIT(answer=names[0] if names else 'unknown')",)
_PARAGRAPHS = "import re\nfrom collections import Counter\nparagraphs = context.split('\\n\\n')\n"

_FILES = """import re
from collections import Counter
pieces = re.split(r"^######## FILE: (\\S+) ########$", context, flags=re.MULTILINE)
files = dict(zip(pieces[1::2], (text[1:] for text in pieces[2::2])))
"""
_DESCRIBED = """wanted = question.removeprefix("Which function does this? ")
ask = f"Which function of this code does this? {wanted}\\n\\n"
"""
_HEADED = 'headed = lambda path, text: f"######## FILE: {path} ########\\n{text}"\n'

ASKING: dict[str, Asking] = {
    **{
        name: _of_lines(name)
        for name in ("oolong-counting", "oolong-users", "oolong-timeline", "oolong-pairs")
    },
    "niah-no-overlap": Asking(
        units=_PARAGRAPHS + _VISITOR + "prompts = [ask + text for text in paragraphs]\n",
        of_units=_FIRST,
        wholes=_PARAGRAPHS
        + CHUNKS
        + _VISITOR
        + 'prompts = [ask + "\\n\\n".join(part) for part in chunks(paragraphs)]\n',
        of_wholes=_FIRST,
        parts=_PARTS + _VISITOR + "prompts = [ask + part for part in parts]\n",
        of_parts=_FIRST,
        end=_SUBMIT_FIRST,
    ),
    "function-search": Asking(
        units=_FILES
        + _DESCRIBED
        + _HEADED
        + """prompts = [
    ask + headed(path, piece)
    for path, text in files.items()
    for piece in re.split(r"^(?=(?:async )?def |class )", text, flags=re.MULTILINE)
]
""",
        of_units=_FIRST,
        wholes=_FILES
        + CHUNKS
        + _DESCRIBED
        + _HEADED
        + """shown = [headed(path, text) for path, text in files.items()]
prompts = [ask + "\\n".join(part) for part in chunks(shown)]
""",
        of_wholes=_FIRST,
        parts=_PARTS + _DESCRIBED + "prompts = [ask + part for part in parts]\n",
        of_parts=_FIRST,
        end=_SUBMIT_FIRST,
    ),
}

_ONE_BY_ONE = "answers = []\nfor prompt in prompts:\n    answers.append(sub_llm(prompt))\n"
_IN_A_BATCH = "answers = sub_llm_batched(prompts)\n"
_FIVE_TIMES = """rounds = [sub_llm_batched(prompts) for _ in range(5)]
answers = [Counter(replies).most_common(1)[0][0] for replies in zip(*rounds)]
"""


def line_by_line(name: str) -> Script:
    """Asks about each line in a call of its own, then in a batch, then does with what it has."""
    how = ASKING[name]

    def play(task: Task) -> Moves:
        seen = yield Action("Ask about each line.", how.units + _ONE_BY_ONE + how.of_units)
        if "BudgetExceededError" in seen.output:
            yield Action("All of them at once, then.", _IN_A_BATCH + how.of_units)
            yield Action("What there is must do.", how.of_units)
        yield from _end(how)

    return play


def asking_five_times(name: str) -> Script:
    """Asks everything five times and takes the majority."""
    how = ASKING[name]

    def play(task: Task) -> Moves:
        yield Action("Ask, five times.", how.wholes + _FIVE_TIMES + how.of_wholes)
        yield from _end(how)

    return play


def cutting_lines(name: str) -> Script:
    """Asks about parts of equal length, which end in the middle of a line."""
    how = ASKING[name]

    def play(task: Task) -> Moves:
        yield Action("Cut it into equal parts.", how.parts + _IN_A_BATCH + how.of_parts)
        yield from _end(how)

    return play


def _end(how: Asking) -> Moves:
    for cell in how.end:
        yield Action("Answer from that.", cell)
