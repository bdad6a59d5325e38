"""Turns any reply of a root LM into code, or into a message that says what to do instead.

`read_reply` decides without I/O and never raises. docs/replies.md lists every form, and what becomes of it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspy_rlm.replies import messages
from dspy_rlm.replies.fences import FIELD, Block, Blocks, fenced_blocks
from dspy_rlm.replies.fields import Fields, fields_of_value, parsed_json, read_fields
from dspy_rlm.replies.final_calls import final_code
from dspy_rlm.replies.python_source import (
    Work,
    does_something,
    final_calls,
    final_calls_are_statements,
)
from dspy_rlm.replies.repairs import repaired, without_shell_lines

# A longer reply is not read: parsing it would take seconds.
MAX_REPLY_CHARS = 2_000_000


@dataclass(frozen=True)
class RawReply:
    """A reply as the LM's client returned it."""

    text: Any = ""
    """The content: text, None, a list of parts, or an object."""
    thoughts: str = ""
    """The text of the reasoning channel."""
    tool_calls: Sequence[Any] = ()
    is_cut: bool = False
    """True if the reply ended at its limit of tokens."""


@dataclass(frozen=True)
class Reading:
    """A reply after it was read: code to run, or the problem with it."""

    reasoning: str = ""
    code: str = ""
    """The code to run; empty if there is a problem."""
    repairs: tuple[str, ...] = ()
    """The names of the repairs that were made, as `messages.REPAIRS` has them."""
    notes: tuple[str, ...] = ()
    """Sentences for the LM about parts of the reply that were not run."""
    problem: str = ""
    """The message for the LM if nothing is run."""
    cause: str = ""
    """The kind of the problem: a key of `messages.PROBLEMS`."""


def read_reply(reply: RawReply) -> Reading:
    """Reads a whole reply."""
    text, repairs = _text_of(reply)
    if len(text) > MAX_REPLY_CHARS:
        return _problem("too_long", chars=len(text))
    text = _normalized(text)
    work = Work(len(text))
    if not text.strip():
        return _problem("cut_off" if reply.is_cut else "empty", reasoning=reply.thoughts.strip())
    fields = read_fields(text, work)
    reading = _read_code(fields, work, is_cut=reply.is_cut)
    repairs = (*repairs, *reading.repairs)
    reasoning = reading.reasoning or reply.thoughts.strip()
    return Reading(
        reasoning, reading.code, _unique(repairs), reading.notes, reading.problem, reading.cause
    )


def read_code_field(text: str, reasoning: str = "") -> Reading:
    """Reads the text of the code field alone, as a predictor of the user's own returns it."""
    if len(text) > MAX_REPLY_CHARS:
        return _problem("too_long", chars=len(text))
    return _read_code(
        Fields(reasoning, _normalized(text), is_complete=True), Work(len(text)), is_cut=False
    )


def _normalized(text: str) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff").replace("\0", "")
    # Halves of a character that belong together are joined, and the others replaced.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# ---- The text of a reply -----------------------------------------------------------------------------


def _text_of(reply: RawReply) -> tuple[str, tuple[str, ...]]:
    """Returns the text to read, and the repairs that were needed to find it."""
    text = _content(reply.text)
    if text.strip() and (not reply.tool_calls or _has_code(text)):
        return text, ()
    called = [
        f"```python\n{code}\n```" for call in reply.tool_calls if (code := _code_of_call(call))
    ]
    if called:
        return "\n\n".join([*filter(None, [text.strip()]), *called]), ("tool_call",)
    if text.strip():
        return text, ()
    thoughts = str(reply.thoughts or "")
    if _has_code(thoughts):
        return thoughts, ("reasoning_channel",)
    return "", ()


# Parts of a content that are nested deeper are no text.
_MAX_PARTS_DEPTH = 4


def _content(value: Any, depth: int = 0) -> str:
    """Returns the text of a content that may be a list of parts or an object."""
    if isinstance(value, str):
        return value
    if depth > _MAX_PARTS_DEPTH:
        return ""
    if isinstance(value, Mapping):
        fields = fields_of_value(value)
        if fields is not None:
            code = f"[[ ## code ## ]]\n{fields.code}" if fields.code else ""
            return f"[[ ## reasoning ## ]]\n{fields.reasoning}\n\n{code}"
        return _content(value.get("text") or value.get("content") or "", depth + 1)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return "\n".join(part for one in value if (part := _content(one, depth + 1)))
    return ""


# The name under which DSPy keeps arguments that are not JSON.
_UNPARSED = "partial_json"


def _code_of_call(call: Any) -> str:
    """Returns the code that a tool call asks to run, or calls the function that it names."""
    function = _item(call, "function") or call
    name, arguments = str(_item(function, "name") or ""), _item(function, "arguments")
    if isinstance(arguments, str):
        value = parsed_json(arguments)[0]
        arguments = value if isinstance(value, str | Mapping) and value else arguments
    if isinstance(arguments, Mapping) and isinstance(arguments.get(_UNPARSED), str):
        arguments = arguments[_UNPARSED]
    fields = fields_of_value(arguments) if isinstance(arguments, Mapping) else None
    if fields is not None and fields.code:
        return fields.code
    if isinstance(arguments, str):
        return arguments
    if isinstance(arguments, Mapping) and name.isidentifier():
        listed = ", ".join(
            f"{key}={value!r}" for key, value in arguments.items() if str(key).isidentifier()
        )
        return f"{name}({listed})"
    return ""


def _item(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _has_code(text: str) -> bool:
    if len(text) > MAX_REPLY_CHARS:
        return False
    work = Work(len(text))
    if FIELD.search(text) and (read_fields(text, work).code or "").strip():
        return True
    return any(block.is_python for block in fenced_blocks(text, work).blocks)


# ---- The code of a reply -----------------------------------------------------------------------------


def _read_code(fields: Fields, work: Work, *, is_cut: bool) -> Reading:
    """Returns the code of the fields, or the problem with them."""
    if fields.code is None:
        return _problem("cut_off" if is_cut else "unreadable", reasoning=fields.reasoning)
    text = _inner_json(fields.code)
    final = final_code(text, work)
    if final is not None and fields.source == "loose":
        return _problem("quoted", reasoning=fields.reasoning)
    if final is not None:
        return Reading(fields.reasoning, final, fields.repairs)
    found = fenced_blocks(text, work)
    whole = work.tree(text.strip("\n")) if found.blocks else None
    if not found.blocks or (whole is not None and does_something(whole)):
        return _read_unfenced(fields, text, work, is_cut=is_cut)
    return _read_blocks(fields, found, work, is_cut=is_cut)


def _inner_json(text: str) -> str:
    """Returns the code in a code field that is an object with a code field."""
    if not text.lstrip().startswith("{"):
        return text
    inner = fields_of_value(parsed_json(text.strip())[0])
    return inner.code if inner is not None and inner.code else text


# Repairs that leave a reply of code alone a reply of code alone. After others, its text may be a quotation.
_HARMLESS = frozenset({"blanks", "punctuation", "quotes", "entities", "tabs"})


def _read_unfenced(fields: Fields, text: str, work: Work, *, is_cut: bool) -> Reading:
    """Reads a code field without a fence."""
    is_field = fields.source == "field" or fields.is_complete or bool(fields.reasoning)
    if not text.strip():
        return _problem("cut_off" if is_cut else "empty", reasoning=fields.reasoning)
    if is_cut and not fields.is_complete:
        return _problem("cut_off", reasoning=fields.reasoning)
    result = repaired(text.strip("\n"), work)
    tree = work.tree(result.code)
    if tree is not None and not tree.body:
        return _problem("empty", reasoning=fields.reasoning)
    if tree is not None and (is_field or does_something(tree)):
        is_changed = not (_HARMLESS.issuperset(result.repairs) and final_calls_are_statements(tree))
        if final_calls(tree) and (
            fields.source == "loose" or (is_changed and fields.source == "text")
        ):
            return _problem("quoted", reasoning=fields.reasoning)
        return _runs(fields, result.code, result.repairs, _notes_on_shell(result.removed))
    parts = _parts(text, work)
    if parts is not None:
        prose, code, invented = parts
        if (tree := work.tree(code)) is not None and final_calls(tree):
            return _problem("quoted", reasoning=fields.reasoning or prose)
        repairs = ("text_after_the_code",) if invented else ()
        return _runs(fields._replace(reasoning=fields.reasoning or prose), code, repairs, ())
    if _is_shell(text):
        return _problem("shell", reasoning=fields.reasoning)
    if is_field and not _is_prose(text):
        return _runs(fields, text.strip("\n"), (), ())  # the traceback says what is wrong with it
    return _problem("unreadable", reasoning=fields.reasoning or text.strip())


def _read_blocks(fields: Fields, found: Blocks, work: Work, *, is_cut: bool) -> Reading:
    """Reads a code field, or a whole reply, with fenced blocks."""
    blocks = _blocks_of_code(found.blocks, work, is_field=fields.source == "field")
    prose = fields.reasoning or found.between(0, found.blocks[0].first).strip()
    if not blocks:
        outside = found.outside.strip()
        tree = work.tree(outside)
        if outside and tree is not None and does_something(tree):
            return _runs(fields, outside, (), ())
        labels = sorted({block.label for block in found.blocks if block.label})
        if is_cut and not found.blocks[-1].is_closed:
            return _problem("cut_off", reasoning=prose)
        if not any(block.code.strip() for block in found.blocks):
            return _problem("empty", reasoning=prose)
        return _problem("other_language", reasoning=prose, labels=labels)
    notes: tuple[str, ...] = ()
    if is_cut and not blocks[-1].is_closed and not fields.is_complete:
        if len(blocks) == 1:
            return _problem("cut_off", reasoning=prose)
        blocks, count = blocks[:-1], len(blocks)
        notes = (messages.not_run(count - 1, count, "cut_off"),)
    chosen, others, invented = _chosen(blocks, found, work)
    notes = (*notes, *others)
    repairs = [*fields.repairs]
    if invented and "text_after_the_code" not in repairs:
        repairs.append("text_after_the_code")
    code, removed = [], list[str]()
    for block in chosen:
        result = repaired(block.code, work)
        code.append(result.code)
        repairs += result.repairs
        removed += result.removed
    whole = "\n\n".join(part.strip("\n") for part in code)
    tree = work.tree(whole)
    if not whole.strip() or (tree is not None and not tree.body):
        return _problem("shell" if removed else "empty", reasoning=prose)
    if tree is not None and final_calls(tree) and _may_be_quoted(fields, found, chosen):
        return _problem("quoted", reasoning=prose)
    if len(chosen) == 1 and not work.compiles(whole) and _is_shell(whole):
        return _problem("shell", reasoning=prose)
    return Reading(prose, whole, _unique(repairs), (*notes, *_notes_on_shell(removed)))


def _may_be_quoted(fields: Fields, found: Blocks, chosen: Sequence[Block]) -> bool:
    """Returns whether code that ends the run may be a quotation: no label says that it is Python, and prose is around."""
    if fields.source == "field":
        return False
    if any(block.is_quotation for block in chosen):
        return True
    return not all(block.is_python for block in chosen) and bool(
        found.outside.strip() or len(found.blocks) > len(chosen)
    )


def _blocks_of_code(blocks: Sequence[Block], work: Work, *, is_field: bool) -> list[Block]:
    """Returns the blocks of Python. One that says so goes before one that says nothing."""
    labelled = [block for block in blocks if block.is_python and block.code.strip()]
    if labelled:
        return labelled
    vague = [
        block
        for block in blocks
        if block.is_vague and block.code.strip() and final_code(block.code, work) is None
    ]
    doing = [
        block
        for block in vague
        if (tree := work.tree(repaired(block.code, work).code)) and does_something(tree)
    ]
    if doing:
        return doing
    bare = [block for block in vague if not block.label]
    is_code = len(bare) == 1 == len(blocks) and (
        is_field or work.compiles(bare[0].code) or _CODE_LINE.search(bare[0].code) is not None
    )
    return bare if is_code else []


# The beginning of a line that is rather code than data or prose.
_CODE_LINE = re.compile(
    r"^[ \t]*(?:(?:import|from|def|class|for|while|if|with|try|return|await|async)\b(?!.*[.!?]$)"
    r"|\w{1,40}[ \t]*=[^=\n]|[\w.]{1,80}\()",
    re.MULTILINE,
)


def _chosen(
    blocks: list[Block], found: Blocks, work: Work
) -> tuple[list[Block], tuple[str, ...], bool]:
    """Returns the blocks to run as one cell, notes on the others, and whether output was invented."""
    invented = _invents_output(found.between(blocks[-1].end, len(found.lines))) or any(
        block.first >= blocks[0].end and block.label in _OUTPUT_LABELS for block in found.blocks
    )
    blocks = _without_drafts(blocks)
    if len(blocks) == 1:
        return blocks, (), invented
    trees = [work.tree(repaired(block.code, work).code) for block in blocks]
    for n, block in enumerate(blocks[:-1]):
        tree = trees[n]
        if tree is not None and final_calls(tree):
            return blocks[: n + 1], (messages.not_run(n + 1, len(blocks), "submits"),), invented
        if _invents_output(found.between(block.end, blocks[n + 1].first)) or any(
            block.end <= other.first < blocks[n + 1].first and other.label in _OUTPUT_LABELS
            for other in found.blocks
        ):
            return blocks[: n + 1], (messages.not_run(n + 1, len(blocks), "invented"),), True
    compiling = [n for n, tree in enumerate(trees) if tree is not None]
    if len(compiling) == len(blocks):
        return blocks, (), invented
    if not compiling:
        return blocks[:1], (messages.not_run(1, len(blocks), "broken"),), invented
    if compiling[0] != 0:
        first = compiling[0]
        return [blocks[first]], (messages.only_run(first + 1, len(blocks)),), invented
    end = next(n for n, tree in enumerate(trees) if tree is None)
    return blocks[:end], (messages.not_run(end, len(blocks), "broken"),), invented


def _without_drafts(blocks: list[Block]) -> list[Block]:
    """Leaves out a block that a later one repeats from its beginning."""
    kept = []
    for n, block in enumerate(blocks):
        later = blocks[n + 1 :]
        code = block.code.strip()
        if not any(
            other.code.strip() == code or other.code.strip().startswith(f"{code}\n")
            for other in later
        ):
            kept.append(block)
    return kept


_OUTPUT_LABELS = frozenset(
    {"output", "out", "result", "results", "stdout", "observation", "console"}
)

_OUTPUT = re.compile(
    r"^[ \t*_#>\[-]*(?:(?:expected |execution |repl |console |code )?"
    r"(?:output|observation|result|results|stdout|logs?)(?: \([\d,]+ chars\))?[*_ \]]*:"
    r"|out\[\d+\]|\(no output|=== step|\[\[ ## (?:repl_history|output|iteration))",
    re.IGNORECASE | re.MULTILINE,
)


def _invents_output(text: str) -> bool:
    """Returns whether the text pretends that code was run."""
    return _OUTPUT.search(text) is not None


# A cell of prose and code is split at one of so many paragraphs.
_MAX_PARAGRAPHS = 40


# The beginning of a line of code in the format of ReAct.
_INPUT = re.compile(
    r"^[ \t]*(?:action input|code|python|command)[ \t]*:[ \t]*(?=\S)", re.IGNORECASE
)


def _parts(text: str, work: Work) -> tuple[str, str, bool] | None:
    """Splits text without a fence into prose and the code after it; None if no part is clearly code.

    What follows the code is left out if it pretends that the code was run.
    """
    invented = _OUTPUT.search(text)
    if invented is not None and invented.start() > 0:
        text = text[: invented.start()]
        tree = work.tree(text.strip("\n"))
        if tree is not None and does_something(tree):
            return "", text.strip("\n"), True
    lines = text.split("\n")
    starts = [
        n
        for n in range(len(lines))
        if lines[n].strip()
        and (
            _INPUT.match(lines[n])
            or (n and (not lines[n - 1].strip() or lines[n - 1].rstrip().endswith((":", ": |"))))
        )
    ]
    for start in starts[:_MAX_PARAGRAPHS]:
        code = "\n".join([_INPUT.sub("", lines[start]), *lines[start + 1 :]]).strip("\n")
        if code.startswith((" ", "\t")):
            code = textwrap.dedent(code)
        tree = work.tree(code)
        if tree is not None and does_something(tree):
            return "\n".join(lines[:start]).strip(), code, invented is not None
    return None


_SENTENCE = re.compile(r"[A-Z\"'*#-]?[\w'*]+(?:,? [\w'\"`*()-]+){3,}[.:!?,]?$")


def _is_prose(text: str) -> bool:
    """Returns whether the text is rather prose than code: its lines read as sentences."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    sentences = sum(bool(_SENTENCE.match(line)) for line in lines[:50])
    return sentences * 2 >= len(lines[:50])


def _is_shell(text: str) -> bool:
    plain, removed = without_shell_lines(text)
    return bool(removed) and not plain.replace("pass", "").strip()


def _notes_on_shell(removed: Sequence[str]) -> tuple[str, ...]:
    return (messages.shell_lines(removed),) if removed else ()


def _runs(fields: Fields, code: str, repairs: Sequence[str], notes: Sequence[str]) -> Reading:
    if not code.strip():
        return _problem("shell" if notes else "empty", reasoning=fields.reasoning)
    return Reading(fields.reasoning, code, _unique((*fields.repairs, *repairs)), tuple(notes))


def _problem(cause: str, *, reasoning: str = "", **details: Any) -> Reading:
    return Reading(reasoning, problem=messages.problem(cause, **details), cause=cause)


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
