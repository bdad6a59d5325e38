"""Extracts the code from the LM's reply. If there is none, the error is a message that the LM can act on."""

from __future__ import annotations

import ast
from typing import NamedTuple

from dspy_rlm.signatures.outputs import ReplyError

_PYTHON_FENCES = frozenset({"", "python", "py", "python3", "py3", "repl", "pycon", "ipython"})


# A fence without a language may contain others. Deeper nesting than this is not a reply.
_MAX_NESTING = 3


def extract_code(text: str) -> str:
    """Returns the Python code of a reply: the content of its first Python fence, or all of it.

    Raises:
        ReplyError: There is no code, or only a fence of another language.
    """
    blocks, rest = _fenced_blocks(text)
    python = [block for language, block in blocks if language in _PYTHON_FENCES and block.strip()]
    if python:
        return _dedent_repl(python[0])
    if not rest.strip() and not any(block.strip() for _, block in blocks):
        raise ReplyError(
            "No code was run: the code field is empty. Write Python, in one ```python block."
        )
    if blocks and not rest.strip():
        languages = sorted({language or "empty" for language, _ in blocks})
        raise ReplyError(
            f"No code was run: the code field holds a ```{'/'.join(languages)} block. Write Python, "
            "in one ```python block."
        )
    if blocks:
        raise ReplyError(
            "No code was run: no ```python block was found, only others. Write Python, in one "
            "```python block."
        )
    return text.strip("\n")


class _Fence(NamedTuple):
    """A fence that is alone on its line. Backticks inside the code are none."""

    mark: str
    """All of its backticks or tildes."""

    language: str
    bare: bool
    """True if nothing follows on its line."""


def _fence_of(line: str) -> _Fence | None:
    """Parses a line as a fence; None for other lines."""
    line = line.lstrip(" \t")
    if not line.startswith(("```", "~~~")):
        return None
    rest = line.lstrip(line[0])
    if "`" in rest:
        return None
    words = rest.split(maxsplit=1)
    language = words[0].lower() if words else ""
    return _Fence(line[: len(line) - len(rest)], language, bare=not rest.strip())


def _fenced_blocks(text: str, nesting: int = 0) -> tuple[list[tuple[str, str]], str]:
    """Returns the language and content of each fenced block, and the text outside of the blocks."""
    blocks: list[tuple[str, str]] = []
    outside: list[str] = []
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        opening = _fence_of(lines[at])
        if opening is None:
            outside.append(lines[at])
            at += 1
            continue
        end = _end_of_block(lines, at + 1, opening.mark)
        if end is None and not opening.language and blocks:
            outside += lines[at:]  # the stray end of an outer pair of fences
            break
        content = "\n".join(lines[at + 1 : end]).strip("\n")
        inner = not opening.language and nesting < _MAX_NESTING
        nested = _fenced_blocks(content, nesting + 1)[0] if inner else []
        blocks += nested or [(opening.language, content)]
        at = len(lines) if end is None else end + 1
    return blocks, "\n".join(outside)


def _end_of_block(lines: list[str], at: int, mark: str) -> int | None:
    """Returns the number of the line that closes the block whose content begins at line `at`."""
    in_string = dict.fromkeys(('"""', "'''"), False)
    for number in range(at, len(lines)):
        line = lines[number]
        fence = _fence_of(line)
        closes = fence is not None and fence.bare and fence.mark.startswith(mark)
        # Inside a triple-quoted string a fence is only text.
        if closes and not any(in_string.values()):
            return number
        for quotes in in_string:
            in_string[quotes] ^= bool(line.count(quotes) % 2)
    return None


def _dedent_repl(code: str) -> str:
    """Removes the prompts from code that was copied from an interactive session."""
    lines = code.split("\n")
    if not lines[0].startswith(">>> "):
        return code
    return "\n".join(line[4:] for line in lines if line.startswith((">>> ", "... ")))


def final_code(text: str) -> str | None:
    """Returns the code for a reply that is only a `FINAL(...)` or `FINAL_VAR(...)`; None for others.

    Those calls end a run in the RLM paper's own implementation (https://github.com/alexzhang13/rlm). An
    argument that is not Python is taken for the answer itself. In a longer reply the call may be a quotation.
    """
    blocks, rest = _fenced_blocks(text)
    if blocks and (rest.strip() or len(blocks) > 1):
        return None
    whole = (blocks[0][1] if blocks else text).strip().rstrip(". \t")
    name = next((name for name in ("FINAL_VAR", "FINAL") if whole.startswith(f"{name}(")), "")
    if not name or not _is_one_call(whole, len(name)):
        return None
    inner = whole[len(name) + 1 : -1].strip()
    call = f"{name}({inner})"
    is_text = not is_python(call) or (name == "FINAL" and inner.isidentifier())
    return f"{name}({inner!r})" if is_text else call


def _is_one_call(text: str, opening: int) -> bool:
    """Returns True if the last character closes the bracket at `opening`, as Python or as plain text."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        depth = 0
        for at in range(opening, len(text)):
            depth += (text[at] == "(") - (text[at] == ")")
            if depth == 0:
                return at == len(text) - 1
        return False
    return isinstance(tree.body, ast.Call) and isinstance(tree.body.func, ast.Name)


def is_python(code: str) -> bool:
    """Returns True if the text compiles as a cell."""
    try:
        compile(code, "<reply>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
