"""Several blocks of code in one reply: those that run as one cell, and the reason why the others do not."""

from __future__ import annotations

import ast
import builtins
import re

from dspy_rlm.replies import messages
from dspy_rlm.replies.fences import Block, Blocks
from dspy_rlm.replies.python_source import Work, final_calls
from dspy_rlm.replies.repairs import repaired


def chosen_blocks(
    blocks: list[Block], found: Blocks, work: Work
) -> tuple[list[Block], tuple[str, ...], bool]:
    """Returns the blocks to run as one cell, notes on the others, and whether output was invented."""
    invented = invents_output(found.between(blocks[-1].end, len(found.lines))) or any(
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
        if invents_output(found.between(block.end, blocks[n + 1].first)) or any(
            block.end <= other.first < blocks[n + 1].first and _is_output(other, found)
            for other in found.blocks
        ):
            return blocks[: n + 1], (messages.not_run(n + 1, len(blocks), "invented"),), True
        later = trees[n + 1]
        if (
            later is not None
            and submits_literals(later)
            and any(tree and calls_something(tree) for tree in trees[: n + 1])
        ):
            return blocks[: n + 1], (messages.not_run(n + 1, len(blocks), "unseen"),), invented
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


def belongs_to(bare: Block, labelled: Block, work: Work) -> bool:
    """Returns whether a block without a label and one of Python are parts of one program: one uses a name of the other."""
    part, rest = work.tree(bare.code), work.tree(labelled.code)
    if part is None or rest is None or final_calls(part):
        return False
    if bare.first < labelled.first:
        return bool(bound_names(part) & free_names(rest))
    return calls_something(part) and bool(bound_names(rest) & free_names(part))


def _is_output(block: Block, found: Blocks) -> bool:
    """Returns whether a block says, or the line before it does, that it is an output."""
    if block.label in _OUTPUT_LABELS:
        return True
    before = next((line for line in reversed(found.lines[: block.first]) if line.strip()), "")
    return block.is_vague and _ANNOUNCED.search(before[-200:]) is not None


# The end of a line that announces an output, such as "This prints:" or "The exact output is".
_ANNOUNCED = re.compile(
    r"\b(?:outputs?|results?|prints?|printed|gives?|yields?|returns?|shows?|displays?)\b[^.\n]{0,30}:?[ \t*_]{0,9}$",
    re.IGNORECASE,
)


# Built-in functions whose values depend on more than their arguments.
_OPEN = frozenset(
    {"eval", "exec", "globals", "locals", "vars", "dir", "open", "input", "__import__"}
)
_CLOSED = (frozenset(dir(builtins)) - _OPEN) | {"SUBMIT", "FINAL", "true", "false", "null"}


def submits_literals(tree: ast.Module) -> bool:
    """Returns whether the code ends the run with values that depend on nothing but itself: no variable, no input."""
    if not final_calls(tree):
        return False
    if any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree)):
        return False
    return free_names(tree) <= _CLOSED


def bound_names(tree: ast.Module) -> set[str]:
    """Returns the names that the code assigns, defines or imports, anywhere in it."""
    names = set[str]()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                names.add(name)
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                names.add(name)
            case ast.alias(name=name, asname=as_name):
                names.add(as_name or name.partition(".")[0])
    return names


def free_names(tree: ast.Module) -> set[str]:
    """Returns the names that the code uses and does not bind."""
    names = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    return names - bound_names(tree)


def calls_something(tree: ast.Module) -> bool:
    """Returns whether the code calls something, outside of definitions."""
    return any(
        isinstance(node, ast.Call)
        for one in tree.body
        if not isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for node in ast.walk(one)
    )


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

OUTPUT = re.compile(
    r"^[ \t*_#>\[-]*(?:(?:expected |execution |repl |console |code )?"
    r"(?:output|observation|result|results|stdout|logs?)(?: \([\d,]+ chars\))?[*_ \]]*:"
    r"|out\[\d+\]|\(no output|=== step|\[\[ ## (?:repl_history|output|iteration))",
    re.IGNORECASE | re.MULTILINE,
)


def invents_output(text: str) -> bool:
    """Returns whether the text pretends that code was run."""
    return OUTPUT.search(text) is not None
