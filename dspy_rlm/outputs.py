"""Out of the LM: code from its reply, typed outputs from what it submitted.

What does not fit is a message that the LM can act on.
"""

from __future__ import annotations

import ast
import enum
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Annotated, Any, get_origin

import pydantic
from dspy.adapters.utils import parse_value
from pydantic.fields import FieldInfo

from dspy_rlm.types import TypeRules, fitting
from dspy_rlm.variables import short_repr
from sandbox_runtime import annotation_text, is_typed_dict

_PYTHON_FENCES = frozenset({"", "python", "py", "python3", "py3", "repl", "pycon", "ipython"})

# A fence stands alone on its line, so that backticks inside of the code do not end it.
_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([^\s`]*)[^\n`]*$", re.MULTILINE)

# The longest part of a wrong value that an error message repeats.
_SHOWN_CHARS = 200


class SlipError(ValueError):
    """The LM's reply cannot be used as it is; the message tells the LM what to do."""


def extract_code(text: str) -> str:
    """The Python code of a reply: the content of its first Python fence, or all of it.

    Raises:
        SlipError: There is no code, or only a fence of another language.
    """
    blocks, rest = _fenced_blocks(text)
    python = [block for language, block in blocks if language in _PYTHON_FENCES and block.strip()]
    if python:
        return _dedent_repl(python[0])
    if not rest.strip() and not any(block.strip() for _, block in blocks):
        raise SlipError(
            "No code was run: the code field is empty. Write Python, in one ```python block."
        )
    if blocks and not rest.strip():
        languages = sorted({language or "empty" for language, _ in blocks})
        raise SlipError(
            f"No code was run: the code field holds a ```{'/'.join(languages)} block. Write Python, "
            "in one ```python block."
        )
    if blocks:
        raise SlipError(
            "No code was run: no ```python block was found, only others. Write Python, in one "
            "```python block."
        )
    return text.strip("\n")


def _fenced_blocks(text: str) -> tuple[list[tuple[str, str]], str]:
    """Language and content of each fenced block, and the text outside of them."""
    blocks: list[tuple[str, str]] = []
    outside, at = "", 0
    while opening := _FENCE.search(text, at):
        outside += text[at : opening.start()]
        fence, language = opening[1], opening[2].lower()
        close = re.compile(rf"^[ \t]*{re.escape(fence[0])}{{{len(fence)},}}[ \t]*$", re.MULTILINE)
        closing = close.search(text, opening.end())
        while closing and _in_string(text[opening.end() : closing.start()]):
            closing = close.search(text, closing.end())
        if closing is None and not language and blocks:
            break  # the stray end of an outer pair of fences
        end = closing.start() if closing else len(text)
        content = text[opening.end() : end].strip("\n")
        nested = _fenced_blocks(content)[0] if not language else []
        blocks += nested or [(language, content)]
        at = closing.end() if closing else len(text)
    return blocks, outside + text[at:]


def _in_string(code: str) -> bool:
    """True if the code ends inside of a triple-quoted string, where a fence is only text."""
    return any(code.count(quotes) % 2 for quotes in ('"""', "'''"))


def _dedent_repl(code: str) -> str:
    """Code copied from a Python prompt without its prompts."""
    lines = code.split("\n")
    if not lines[0].startswith(">>> "):
        return code
    return "\n".join(line[4:] for line in lines if line.startswith((">>> ", "... ")))


# How other systems taught LMs to end a run: a call that stands in the text of a reply.
_FINAL = re.compile(r"^[ \t]*(FINAL(?:_VAR)?)\((.*)\)[ \t.]*$", re.MULTILINE | re.DOTALL)


def final_code(text: str) -> str | None:
    """The code for a `FINAL(...)` or `FINAL_VAR(...)` that stands in plain text; None if none does.

    What is no Python is taken for the answer itself. In a block of code it is a part of that code.
    """
    found = None if _FENCE.search(text) else _FINAL.search(text)
    if found is None:
        return None
    name, inner = found[1], found[2].strip()
    call = f"{name}({inner})"
    is_text = not is_python(call) or (name == "FINAL" and inner.isidentifier())
    return f"{name}({inner!r})" if is_text else call


def is_python(code: str) -> bool:
    """Whether a cell can be made of the text at all."""
    try:
        compile(code, "<reply>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def parse_outputs(
    fields: Mapping[str, FieldInfo], values: Mapping[str, Any], rules: TypeRules = ()
) -> dict[str, Any]:
    """The submitted values, converted to the declared types; by `rules` where they have one.

    Raises:
        SlipError: A field is missing, unknown or of the wrong type; all problems are named.
    """
    parsed, problems = typed_outputs(fields, values, rules)
    if problems:
        listed = "\n".join(f"- {problem}" for problem in problems)
        raise SlipError(
            f"SUBMIT was refused, the run goes on:\n{listed}\nCorrect this and SUBMIT again."
        )
    return parsed


def typed_outputs(
    fields: Mapping[str, FieldInfo], values: Mapping[str, Any], rules: TypeRules = ()
) -> tuple[dict[str, Any], list[str]]:
    """The values that fit their fields, converted to the declared types, and what is wrong with the rest."""
    problems = [f"{name}: this output is missing" for name in fields if name not in values]
    problems += [f"{name}: there is no such output" for name in values if name not in fields]
    parsed = {}
    for name, field in fields.items():
        if name not in values:
            continue
        try:
            parsed[name] = fitting(values[name], field.annotation, rules, partial(_parse, field))
        except (ValueError, TypeError) as error:
            problems += [f"{name}: {problem}" for problem in _problems(field, values[name], error)]
    return parsed, problems


def _parse(field: FieldInfo, value: Any, annotation: Any) -> Any:
    if _is_of(value, annotation):
        parsed = (
            value  # of the declared class already, which DSPy does not expect of an enum member
        )
    elif annotation is str and isinstance(value, enum.Enum):
        parsed = str(value.value)
    else:
        parsed = parse_value(value, annotation)
    if field.metadata:
        constrained: Any = Annotated[(annotation, *field.metadata)]
        return pydantic.TypeAdapter(constrained).validate_python(parsed)
    return parsed


def _is_of(value: Any, annotation: Any) -> bool:
    # `typing.Any` is a class in some versions of Python.
    if not isinstance(annotation, type) or annotation in (Any, str) or is_typed_dict(annotation):
        return False
    return get_origin(annotation) is None and isinstance(value, annotation)


def _problems(field: FieldInfo, value: Any, error: Exception) -> Iterable[str]:
    expected = f"expected {annotation_text(field.annotation)}"
    if not isinstance(error, pydantic.ValidationError):
        return [f"{expected}, got {short_repr(value, _SHOWN_CHARS)}: {str(error)[:_SHOWN_CHARS]}"]
    details = []
    for item in error.errors(include_url=False)[:5]:
        place = "".join(f"[{key!r}]" for key in item["loc"])
        where = f" at {place}" if place else ""
        details.append(
            f"{expected}{where}: {item['msg']}, got {short_repr(item['input'], _SHOWN_CHARS)}"
        )
    return details
