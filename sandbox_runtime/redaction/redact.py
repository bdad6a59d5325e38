"""Keeps the host's secrets out of what a sandbox is told of errors.

A tool's result is the tool's own doing. The text of an exception is nobody's: it may quote a header, a
command line or an address with a key in it. What is hidden: values of the environment that are secrets by
name or by form, values that the caller knows, in plain or encoded, and what looks like a secret anywhere.
"""

from __future__ import annotations

import base64
import enum
import functools
import html
import inspect
import json
import os
import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus

from sandbox_runtime.redaction.secret_patterns import (
    HIDDEN,
    LEAST_CHARS,
    is_secret_name,
    is_worth_hiding,
    secrets_of,
    without_patterns,
)

# An encoded form of at least so many characters is also found where it is broken into lines.
_LEAST_WRAPPED = 16

# Of a text that is longer, only the two ends are looked through, and only they are shown.
MAX_CHARS = 200_000

# Characters next to the part that is left out which are looked through and not shown: whoever chooses the
# length of a text could else have a secret cut in two, and neither half is one. Longer than any key.
_MARGIN = 16_384

_BETWEEN = r"(?:\\[nrt]|[\s\\\"'])*"
_WRAPPING = re.compile(r"\\[nrt]|[\s\\\"']")


def redact_secrets(text: str, more: Iterable[object] = ()) -> str:
    """The text with each secret replaced by `[secret]`; `more` are values that the caller knows to be some."""
    more = list(more)
    if len(text) > MAX_CHARS:
        half = MAX_CHARS // 2
        head, tail = (_clean(part, more) for part in (text[:half], text[-half:]))
        left = len(text) - 2 * (half - _MARGIN)
        return f"{head[:-_MARGIN]}\n... ({left:,} characters omitted) ...\n{tail[_MARGIN:]}"
    return _clean(text, more)


def _clean(text: str, more: Iterable[object]) -> str:
    known = set(environment_secrets())
    known.update(value for value in more if isinstance(value, str) and is_worth_hiding(value))
    # The longest first: one may contain another.
    forms = sorted({form for value in known for form in _forms(value)}, key=len, reverse=True)
    for form in forms:
        text = text.replace(form, HIDDEN)
    return without_patterns(_without_wrapped(text, forms))


def environment_secrets() -> frozenset[str]:
    """The values of the environment that are secrets, by name or by form."""
    return _of_environment(tuple(os.environ.items()))


def _without_wrapped(text: str, forms: Iterable[str]) -> str:
    """The text without secrets that are broken by the ends of lines, as base64 often is."""
    joined = _WRAPPING.sub("", text)
    if len(joined) == len(text):
        return text
    for form in forms:
        if len(form) < _LEAST_WRAPPED or (bare := _WRAPPING.sub("", form)) not in joined:
            continue
        pattern = _BETWEEN.join(map(re.escape, bare))
        text = re.sub(pattern, HIDDEN, text)
    return text


@functools.lru_cache(maxsize=4)
def _of_environment(variables: tuple[tuple[str, str], ...]) -> frozenset[str]:
    found = (secret for name, value in variables for secret in secrets_of(name, value))
    return frozenset(filter(is_worth_hiding, found))


@functools.lru_cache(maxsize=1024)
def _forms(value: str) -> frozenset[str]:
    """A secret as it is, and as it is written in addresses, JSON, HTML, base64 and hexadecimal."""
    data = value.encode("utf-8", "replace")
    forms = {value, json.dumps(value)[1:-1], repr(value)[1:-1], html.escape(value)}
    for quoted in (quote(value), quote(value, safe=""), quote_plus(value)):
        forms |= {quoted, re.sub("%..", lambda found: found[0].lower(), quoted)}
    forms |= {data.hex(), data.hex().upper()}
    for before in range(3):  # it may stand at any place within the encoded text
        encoded = base64.b64encode(bytes(before) + data).decode().rstrip("=")
        whole = encoded[(0, 2, 3)[before] : len(encoded) - bool((before + len(data)) % 3)]
        forms |= {whole, whole.replace("+", "-").replace("/", "_")}
    return frozenset(form for form in forms if len(form) >= LEAST_CHARS)


class _Hidden:
    """Stands in a signature for a default that is not shown."""

    def __repr__(self) -> str:
        return "..."


_HIDDEN_DEFAULT = _Hidden()

# Defaults of these types are shown as they are; of other classes nobody knows what their `repr` says.
_SHOWN_DEFAULTS = (bool, int, float, complex, type(None), type(...), type, enum.Enum, bytes)


def shown_signature(signature: inspect.Signature) -> inspect.Signature:
    """The signature of a function as a cell or a prompt may see it: with `...` for defaults that are not theirs."""
    hidden = {
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is not inspect.Parameter.empty
        and not _may_be_shown(name, parameter.default)
    }
    if not hidden:
        return signature
    shown = [
        parameter.replace(default=_HIDDEN_DEFAULT) if name in hidden else parameter
        for name, parameter in signature.parameters.items()
    ]
    return signature.replace(parameters=shown)


def _may_be_shown(name: object, value: object, depth: int = 0) -> bool:
    if isinstance(value, str):
        named = is_secret_name(name) and is_worth_hiding(value)
        return not named and redact_secrets(value) == value
    if isinstance(value, (list, tuple, set, frozenset)):
        return depth < 5 and all(_may_be_shown(name, part, depth + 1) for part in value)
    if isinstance(value, dict):
        return depth < 5 and all(
            _may_be_shown(name, key, depth + 1) and _may_be_shown(key, part, depth + 1)
            for key, part in value.items()
        )
    module = type(value).__module__
    return isinstance(value, _SHOWN_DEFAULTS) or module in ("datetime", "decimal", "pathlib")
