"""Fenced blocks in a reply, by CommonMark's rules (https://spec.commonmark.org/0.31.2/#fenced-code-blocks) and a few more.

CommonMark ends a block at the first fence that is as long as its opening, also inside a Python string. Here a
block of Python ends where its content compiles. Fences that models misplace are accepted too: after a word, at
the end of the last line of code, closed by the next field of the reply, or never closed.
"""

from __future__ import annotations

import itertools
import re
import shlex
import textwrap
from collections.abc import Iterator
from typing import NamedTuple

from dspy_rlm.replies.python_source import Work, does_something, spans

PYTHON_LABELS = frozenset(
    {"python", "py", "repl", "ipython", "pycon", "pythonrepl", "tool_code", "execute", "cell"}
)

# Labels of blocks whose text is no Python, or is an output. A block with any other label may hold Python if it looks like it.
_OTHER_LABELS = frozenset(
    """
    yaml yml toml xml html css csv tsv ini log logs markdown md latex tex bash sh shell zsh console
    terminal powershell cmd bat dockerfile makefile sql javascript js jsx typescript ts tsx node java
    kotlin scala c cpp c++ csharp c# go rust ruby rb php perl lua swift r julia haskell matlab mermaid
    http output out result results stdout stderr observation traceback error regex graphql
    """.split()  # noqa: SIM905 - words, seven lines instead of seventy
)

_WRAPPERS = frozenset({"", "markdown", "md"})

# Fences in fences. Deeper nesting than this is not a reply.
_MAX_NESTING = 3

# Code before a lone closing fence begins at one of so many paragraphs.
_MAX_STARTS = 10

# A block ends at one of so many fences after its opening.
_MAX_ENDS = 60

FIELD = re.compile(
    r"^[ \t*`~]*\[\[[ \t]*#+[ \t]*(?P<name>\w+)[ \t]*#+[ \t]*\]\]\**[ \t]*[:=]?", re.MULTILINE
)
"""The marker of a field, as DSPy's `ChatAdapter` writes it, at the beginning of a line."""

_OPENING = re.compile(r"^(?P<before>[^`~\n]*?)(?P<mark>`{3,}|~{3,}(?!~))(?P<info>[^`\n]*)$")
_LIST_ITEM = re.compile(r"^[ \t>]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?(?:\*\*)?$")
_FENCE = re.compile("`{3,}")
_QUOTED = re.compile(r"^[ \t]*> ?")
# Ends of blocks in the formats of other agents.
_CLOSING_ELEMENTS = ("</code>", "</python>", "<end_code>")

_LABEL = re.compile(r"[^\W\d][\w+#-]*")


class Block(NamedTuple):
    """A fenced block, in the lines `first` to `end` of the text."""

    label: str
    code: str
    first: int
    """The line of the opening fence."""
    end: int
    """The line after the closing fence."""
    is_closed: bool
    is_quotation: bool = False
    """True if it is in a quotation of Markdown, whose lines begin with `>`."""

    @property
    def is_python(self) -> bool:
        """True if it is labelled as Python."""
        return self.label in PYTHON_LABELS

    @property
    def is_vague(self) -> bool:
        """True if its label does not say that it is something else than Python."""
        return self.label not in _OTHER_LABELS and not self.is_python


class Blocks(NamedTuple):
    """The blocks of a text, and its lines."""

    lines: list[str]
    blocks: list[Block]

    def between(self, first: int, end: int) -> str:
        """Returns the text outside of blocks in these lines."""
        inside = {n for block in self.blocks for n in range(block.first, block.end)}
        return "\n".join(self.lines[n] for n in range(first, end) if n not in inside)

    @property
    def outside(self) -> str:
        """The text outside of blocks."""
        return self.between(0, len(self.lines))


def fenced(code: str) -> str:
    """Returns the code in a block of Python, whose fence is longer than any in the code."""
    longest = max((len(run) for run in _FENCE.findall(code)), default=2)
    mark = "`" * (longest + 1)
    return f"{mark}python\n{code}\n{mark}"


# Shells, whose blocks may hold Python as text.
_SHELL_LABELS = frozenset({"bash", "sh", "shell", "zsh", "console", "terminal"})

_HEREDOC = re.compile(
    r"\s*(?:\$ )?python3?(?: -)? <<-? ?[\"']?(?P<end>\w{1,20})[\"']?\n(?P<code>.*?)\n(?P=end)\s*",
    re.DOTALL,
)


def python_in_shell(block: Block) -> Block | None:
    """Returns the Python that a block for a shell runs as a whole, as a block without a label; None for others."""
    if block.label not in _SHELL_LABELS:
        return None
    match = _HEREDOC.fullmatch(block.code)
    if match is not None:
        return block._replace(label="", code=match["code"])
    try:
        words = shlex.split(block.code.strip().removeprefix("$ "))
    except ValueError:
        return None
    is_command = len(words) == 3 and words[0] in ("python", "python3") and words[1] == "-c"
    return block._replace(label="", code=words[2].strip("\n")) if is_command else None


def fenced_blocks(text: str, work: Work, nesting: int = 0) -> Blocks:
    """Finds the fenced blocks of a text."""
    lines = text.split("\n")
    blocks: list[Block] = []
    at = 0
    while at < len(lines):
        block = _block_at(lines, at, work, blocks)
        if block is None:
            at += 1
            continue
        at = max(block.end, at + 1)
        nested = _nested(block, work, nesting)
        blocks += nested or [block]
    return Blocks(lines, blocks)


def _nested(block: Block, work: Work, nesting: int) -> list[Block]:
    """Returns the blocks inside a block that only wraps others."""
    if block.label not in _WRAPPERS or nesting >= _MAX_NESTING or work.compiles(block.code):
        return []
    inner = fenced_blocks(block.code, work, nesting + 1).blocks
    if not any(one.is_python for one in inner):
        return []
    return [one._replace(first=block.first, end=block.end) for one in inner]


def _block_at(lines: list[str], at: int, work: Work, before: list[Block]) -> Block | None:
    """Returns the block that opens on a line; None if none does."""
    line = lines[at]
    if (one := _block_in_one_line(line, at, work)) is not None:
        return one
    opening = _OPENING.match(line)
    if opening is None or opening["info"].lstrip().startswith(("[[", "<")):
        return None
    in_list = _LIST_ITEM.match(opening["before"]) is not None
    if not in_list and not _opens_after_a_word(opening):
        return None
    label, rest = _label_and_rest(opening["info"])
    if not label and not before:
        lone = _before_a_lone_fence(lines, at, opening, work)
        if lone is not None:
            return lone
    indent = opening["before"] if in_list else ""
    end = _end_of_block(lines, at + 1, opening["mark"], label, work)
    content = lines[at + 1 : end.line] + ([end.last] if end.last else [])
    code = _unindented(content, indent)
    if rest:
        code = f"{rest}\n{code}"
    if not end.is_closed and not code.strip() and not label:
        return None  # the stray end of an outer pair of fences
    return Block(label, code.strip("\n"), at, end.after, end.is_closed, ">" in indent)


def _block_in_one_line(line: str, at: int, work: Work) -> Block | None:
    """Returns a block that opens and closes on one line, such as ```` ```python print(1)``` ````."""
    text = line.strip()
    if not (text.startswith("```") and text.endswith("```")):
        return None
    inner = text.strip("`").strip()
    word = _LABEL.match(inner)
    label = word[0].lower() if word else ""
    if label in PYTHON_LABELS and word is not None:
        code = inner[word.end() :].strip()
        if code and work.compiles(code):
            return Block(label, code, at, at + 1, is_closed=True)
    return Block("", inner, at, at + 1, is_closed=True) if inner and work.compiles(inner) else None


def _opens_after_a_word(opening: re.Match[str]) -> bool:
    """Returns whether a fence after words opens a block: it has a label and nothing else, or follows a colon."""
    label, rest = _label_and_rest(opening["info"])
    if rest or not opening["mark"].startswith("`"):
        return False
    is_announced = opening["before"].rstrip(" *_").endswith((":", "\uff1a"))
    return label in PYTHON_LABELS or (not opening["info"].strip() and is_announced)


_PYTHON = re.compile(r"python|\.py\b|\bpy\b|pyhton|pyton|phyton", re.IGNORECASE)


def _label_and_rest(info: str) -> tuple[str, str]:
    """Returns the language of an info string, and code that follows on its line."""
    match = _LABEL.search(info)
    if match is None:
        return "", ""
    label = match[0].lower().rstrip("0123456789").rstrip("-_")
    rest = info[match.end() :].strip()
    is_code = rest.startswith(("import ", "from ", "print(", "SUBMIT("))
    if label not in PYTHON_LABELS and _PYTHON.search(rest if is_code else info):
        label = "python"
    return label, rest if is_code and label in PYTHON_LABELS else ""


def _before_a_lone_fence(
    lines: list[str], at: int, opening: re.Match[str], work: Work
) -> Block | None:
    """Returns the code before a closing fence without an opening one."""
    if opening["before"].strip() or not work.affords(len(lines)):
        return None
    mark = opening["mark"]
    fences = [line for line in lines[at + 1 :] if line.strip(" \t>").startswith(mark)]
    if len(fences) % 2:
        return None  # this fence opens a block
    first = next((n + 1 for n in range(at - 1, -1, -1) if FIELD.match(lines[n])), 0)
    starts = [n for n in range(first + 1, at) if not lines[n - 1].strip() and lines[n].strip()]
    for start in [first, *starts[:_MAX_STARTS]]:
        code = "\n".join(lines[start:at]).strip("\n")
        if not work.affords(len(code)) or not code.strip():
            return None
        tree = work.tree(code)
        if tree is not None and does_something(tree):
            label = "python" if start == first else ""  # below prose it may be a quotation
            return Block(label, code, start, at + 1, is_closed=True)
    return None


class _End(NamedTuple):
    """A line that ends a block, or may end one."""

    line: int
    after: int
    """The line at which the reading goes on."""
    last: str = ""
    """Code before the fence on its line."""
    is_plain: bool = False
    """True for a fence that is alone on its line, as CommonMark has it."""
    is_closed: bool = True
    """False if no fence was there."""


def _end_of_block(lines: list[str], at: int, mark: str, label: str, work: Work) -> _End:
    """Returns the end of the block whose content begins at a line."""
    ends = list(itertools.islice(_possible_ends(lines, at, mark), _MAX_ENDS))
    plain = [end for end in ends if end.is_plain]
    chosen = None
    if label not in _OTHER_LABELS:
        compiling = (end for end in ends if _compiles(lines, at, end, work))
        chosen = next(compiling, None)
        if chosen is not None and chosen.last:
            # The end of a comment may look like a fence.
            later = (end for end in plain if _compiles(lines, at, end, work))
            chosen = next(later, chosen)
        chosen = chosen or _first_outside_strings(lines, at, plain, work)
    chosen = chosen or next(iter(plain), None)
    chosen = chosen or next((end for end in ends if FIELD.match(lines[end.line])), None)
    return chosen or _End(len(lines), len(lines), is_closed=False)


def _possible_ends(lines: list[str], at: int, mark: str) -> Iterator[_End]:
    for number in range(at, len(lines)):
        line = lines[number]
        text = line.strip(" \t>*")
        if text.startswith(mark):
            rest = text.lstrip(mark[0]).strip()
            if not rest:
                yield _End(number, number + 1, is_plain=True)
            elif rest.startswith(("[[", "<")):
                yield _End(number, number, is_plain=True)
            else:
                blank = next((n for n in range(number - 1, at, -1) if not lines[n].strip()), number)
                yield _End(blank, number, is_closed=False)
                yield _End(number, number, is_closed=False)
        elif text.endswith(mark):
            yield _End(number, number + 1, line.rstrip().rstrip(mark[0]))
        elif line.strip() in _CLOSING_ELEMENTS:
            yield _End(number, number + 1, is_plain=True)
        elif FIELD.match(line):
            yield _End(number, number, is_closed=False)


def _compiles(lines: list[str], at: int, end: _End, work: Work) -> bool:
    """Returns whether a block with this end compiles, without its indentation."""
    content = [*lines[at : end.line], end.last]
    return work.affords(sum(map(len, content)) + len(content)) and work.compiles(
        textwrap.dedent("\n".join(content))
    )


def _first_outside_strings(lines: list[str], at: int, ends: list[_End], work: Work) -> _End | None:
    """Returns the first end that is not inside a long string; the first of all if each is."""
    if not ends or not work.affords(
        sum(map(len, lines[at : ends[-1].line])) + len(lines[at : ends[-1].line])
    ):
        return next(iter(ends), None)
    lines = lines[: ends[-1].line + 1]
    text = "\n".join(lines[at:])
    strings = [(span.start, span.end) for span in spans(text) if span.is_string]
    starts = list(itertools.accumulate((len(line) + 1 for line in lines[at:]), initial=0))
    for end in ends:
        start = starts[end.line - at]
        if not any(first < start < last for first, last in strings):
            return end
    return next(iter(ends), None)


def _unindented(content: list[str], before: str) -> str:
    """Returns the lines without the indentation, or the quotation marks, of their opening fence."""
    if ">" in before:
        content = [_QUOTED.sub("", line) for line in content]
        before = before.replace(">", "")
    width = len(before)
    return "\n".join(line[min(width, len(line) - len(line.lstrip())) :] for line in content)
