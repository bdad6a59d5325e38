"""Turns any reply of a root LM into code, or into a message that says what to do instead.

`read_reply` decides without I/O and never raises. docs/replies.md lists every form, and what becomes of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from dspy_rlm.replies import messages
from dspy_rlm.replies.channels import RawReply, code_of_calls, content_text
from dspy_rlm.replies.fences import Block, Blocks, fenced_blocks, python_in_shell
from dspy_rlm.replies.fields import read_fields
from dspy_rlm.replies.final_calls import final_code
from dspy_rlm.replies.marks import with_fences
from dspy_rlm.replies.objects import Fields, fields_of_value, parsed_json
from dspy_rlm.replies.prose import code_after_prose, is_prose
from dspy_rlm.replies.python_source import (
    Work,
    does_something,
    final_calls,
    final_calls_are_statements,
)
from dspy_rlm.replies.repairs import repaired, without_shell_lines
from dspy_rlm.replies.several import belongs_to, calls_something, chosen_blocks

# A longer reply is not read: parsing it would take seconds.
MAX_REPLY_CHARS = 2_000_000


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
    text = content_text(reply.text)
    # A part of a code, withheld by a filter, is not run, as one that was cut is not.
    reading = _read_text(text, is_cut=reply.is_cut or bool(reply.withheld))
    if reading.problem and reading.cause not in _SAID:
        reading = _in_other_channels(reply, _normalized(text), reading) or reading
    if reading.problem and reply.withheld:
        return _problem(reply.withheld, reasoning=reading.reasoning)
    return replace(
        reading, reasoning=reading.reasoning or _normalized(str(reply.thoughts or "")).strip()
    )


# Causes of problems after which the other channels are not read: the reply itself had code.
_SAID = frozenset({"quoted", "too_long", "shell"})

# A text without anything else says nothing.
_MARKS = re.compile(r"`{3,}\w*|\[\[[ \t]*#+[ \t]*\w+[ \t]*#+[ \t]*\]\]")


def _in_other_channels(reply: RawReply, text: str, reading: Reading) -> Reading | None:
    """Reads the code in tool calls, or in the thoughts if the content says nothing; None if there is none."""
    calls = code_of_calls(reply.tool_calls or ())
    if calls.text:
        if reply.is_cut and not calls.is_whole:
            return _problem("cut_off", reasoning=reading.reasoning)
        found = _read_text(calls.text, is_cut=False)
        reasoning = reading.reasoning or found.reasoning
        return replace(found, reasoning=reasoning, repairs=_unique(("tool_call", *found.repairs)))
    thoughts = str(reply.thoughts or "")
    if _MARKS.sub("", text).strip() or not _has_code(thoughts):
        return None
    found = _read_text(thoughts, is_cut=reply.is_cut)
    return replace(found, repairs=_unique(("reasoning_channel", *found.repairs)))


def _has_code(text: str) -> bool:
    """Returns whether thoughts have a whole reply in them: the code field, or a block of code."""
    if len(text) > MAX_REPLY_CHARS:
        return False
    text = _normalized(text)
    work = Work(len(text))
    fields = read_fields(text, work)
    if fields.source == "field" and (fields.code or "").strip():
        return True
    return bool(_blocks_of_code(fenced_blocks(text, work).blocks, work, is_field=False))


def _read_text(text: str, *, is_cut: bool) -> Reading:
    """Reads the text of one channel."""
    if len(text) > MAX_REPLY_CHARS:
        return _problem("too_long", chars=len(text))
    text = _normalized(text)
    if is_cut and (partial := _PARTIAL_FENCE.search(text[-40:])):
        text += "`" * (3 - len(partial[1]))
    if not text.strip():
        return _problem("cut_off" if is_cut else "empty")
    work = Work(len(text))
    return _read_code(read_fields(text, work), work, is_cut=is_cut)


# A closing fence at which a reply was cut off.
_PARTIAL_FENCE = re.compile(r"\n(`{1,2})\Z")


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
    whole = work.tree(text.strip("\n"))
    if whole is None and not found.blocks:
        found = fenced_blocks(with_fences(text), work)
    if not found.blocks or (whole is not None and does_something(whole)):
        return _read_unfenced(fields, text, work, is_cut=is_cut)
    return _read_blocks(fields, found, work, is_cut=is_cut)


def _inner_json(text: str) -> str:
    """Returns the code in a code field, or a block, that is an object with a code field."""
    whole = text.strip()
    if not (whole.startswith("{") and whole.endswith("}")):
        return text
    inner = fields_of_value(parsed_json(whole)[0])
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
    if fields.source == "thoughts":
        return _problem("unreadable", reasoning=text.strip())
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
    parts = code_after_prose(text, work)
    if parts is not None:
        prose, code, invented = parts
        if (tree := work.tree(code)) is not None and final_calls(tree):
            return _problem("quoted", reasoning=fields.reasoning or prose)
        repairs = ("text_after_the_code",) if invented else ()
        return _runs(fields._replace(reasoning=fields.reasoning or prose), code, repairs, ())
    if _is_shell(text):
        return _problem("shell", reasoning=fields.reasoning)
    if is_field and not is_prose(text):
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
        if labels and labels[0] in _OF_FIELDS and len(found.blocks) == 1:
            inner = read_fields(found.blocks[0].code, work)
            if "```" not in (inner.code or "```"):
                inner = inner._replace(source="loose" if outside else inner.source)
                return _read_unfenced(inner, inner.code or "", work, is_cut=is_cut)
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
    chosen, others, invented = chosen_blocks(blocks, found, work)
    unlabelled = _unlabelled_code(found.blocks, blocks, work)
    notes = (*notes, *others, *([messages.unlabelled(unlabelled)] if unlabelled else []))
    repairs = [*fields.repairs]
    if invented and "text_after_the_code" not in repairs:
        repairs.append("text_after_the_code")
    code, removed = [], list[str]()
    for block in chosen:
        result = repaired(_inner_json(block.code), work)
        code.append(result.code)
        repairs += result.repairs
        removed += result.removed
    whole = "\n\n".join(part.strip("\n") for part in code)
    tree = work.tree(whole)
    if not whole.strip() or (tree is not None and not tree.body):
        return _problem("shell" if removed else "empty", reasoning=prose)
    if tree is not None and final_calls(tree) and _may_be_quoted(fields, found, chosen, work):
        return _problem("quoted", reasoning=prose)
    if len(chosen) == 1 and not work.compiles(whole) and _is_shell(whole):
        return _problem("shell", reasoning=prose)
    return Reading(prose, whole, _unique(repairs), (*notes, *_notes_on_shell(removed)))


# Labels of a block that may hold the fields of the reply in that format.
_OF_FIELDS = frozenset({"yaml", "yml", "xml", "html"})


def _may_be_quoted(fields: Fields, found: Blocks, chosen: Sequence[Block], work: Work) -> bool:
    """Returns whether code that ends the run may be a quotation: no label says that it is Python, and prose is around."""
    if fields.source == "field":
        return False
    trees = [work.tree(block.code) for block in chosen]
    ending = [
        block
        for block, tree in zip(chosen, trees, strict=True)
        if tree is None or final_calls(tree)
    ]
    if any(block.is_quotation for block in ending):
        return True
    return not all(block.is_python for block in ending) and bool(
        found.outside.strip() or len(found.blocks) > len(chosen)
    )


def _blocks_of_code(blocks: Sequence[Block], work: Work, *, is_field: bool) -> list[Block]:
    """Returns the blocks of Python. One that says so goes before one that says nothing."""
    labelled = [block for block in blocks if block.is_python and block.code.strip()]
    if labelled:
        bare = [block for block in blocks if not block.label and block.code.strip()]
        parts = [
            one
            for one in bare[:_MAX_BARE]
            if any(belongs_to(one, block, work) for block in labelled[:_MAX_BARE])
        ]
        return sorted([*labelled, *parts], key=lambda block: block.first)
    vague = [
        block
        for block in (python_in_shell(block) or block for block in blocks)
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


# So many blocks without a label are compared with so many that have one.
_MAX_BARE = 8


def _unlabelled_code(blocks: Sequence[Block], of_code: Sequence[Block], work: Work) -> int:
    """Returns the number of blocks that look like code, but have no label beside others that have one."""
    if not any(block.is_python for block in of_code):
        return 0
    trees = [
        work.tree(block.code)
        for block in blocks
        if block.is_vague and block not in of_code and block.code.strip()
    ]
    return sum(tree is not None and calls_something(tree) for tree in trees)


# The beginning of a line that is rather code than data or prose.
_CODE_LINE = re.compile(
    r"^[ \t]*(?:(?:import|from|def|class|for|while|if|with|try|return|await|async)\b(?!.*[.!?]$)"
    r"|\w{1,40}[ \t]*=[^=\n]|[\w.]{1,80}\()",
    re.MULTILINE,
)


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
