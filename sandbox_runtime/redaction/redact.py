"""Removes the host's secrets from error texts that enter a sandbox.

A tool chooses its results deliberately, but not the text of its exceptions, which may quote a header, a command
line or a URL with a key. Removed are environment values that are secrets by name or by form, values that the caller
lists, plain or encoded, those of the run (`hiding`), and anything that looks like a secret.
"""

from __future__ import annotations

import base64
import contextlib
import enum
import functools
import html
import inspect
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from urllib.parse import quote, quote_plus

from sandbox_runtime.redaction.decoding import MAX_LAYERS, decoded_word, without_words
from sandbox_runtime.redaction.secret_patterns import (
    HIDDEN,
    LEAST_CHARS,
    is_secret_name,
    is_worth_hiding,
    secrets_of,
    without_patterns,
)
from sandbox_runtime.redaction.shortened import without_pieces
from sandbox_runtime.truncation import without_middle

# Encoded forms of at least this many characters are also found across line breaks.
_LEAST_WRAPPED = 16

# Of a longer text, only the two ends are searched and shown.
MAX_CHARS = 200_000

# Characters next to the omitted part that are searched but not shown: otherwise an attacker who controls the length
# of a text could cut a secret in two, and neither half would be recognised. Longer than any key.
_MARGIN = 16_384

_BETWEEN = r"(?:\\[nrt]|[\s\\\"'])*"
_WRAPPING = re.compile(r"\\[nrt]|[\s\\\"']")


# The sources of further secrets, of the runs that this code belongs to.
_sources: ContextVar[tuple[Callable[[], Iterable[str]], ...]] = ContextVar("secrets", default=())


@contextlib.contextmanager
def hiding(secrets: Callable[[], Iterable[str]]) -> Iterator[None]:
    """Redacts these secrets as well within the block, and in the threads and tasks that it starts.

    The function is called only for a text that is redacted.
    """
    token = _sources.set((*_sources.get(), secrets))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # an abandoned coroutine is closed in another context
            _sources.reset(token)


def redact_secrets(text: str, more: Iterable[object] = ()) -> str:
    """Returns the text with each secret replaced by `[secret]`; `more` lists further secrets."""
    more = [*more, *(secret for source in _sources.get() for secret in source())]
    if len(text) > MAX_CHARS:
        half = MAX_CHARS // 2
        head, tail = (_clean(part, more) for part in (text[:half], text[-half:]))
        left = len(text) - 2 * (half - _MARGIN)
        return without_middle(head[:-_MARGIN], left, tail[_MARGIN:])
    return _clean(text, more)


def _clean(text: str, more: Iterable[object]) -> str:
    secrets = [*environment_secrets(), *more]
    # Before the forms: a secret that is part of another would split an encoding of the longer one.
    text = without_words(text, words_of(secrets), HIDDEN)
    forms = forms_of(secrets)
    for form in forms:
        text = text.replace(form, HIDDEN)
    text = without_pieces(_without_wrapped(text, forms), _known(secrets), HIDDEN)
    return without_patterns(text)


def forms_of(secrets: Iterable[object]) -> list[str]:
    """Returns known secrets and their encodings, longest first: one may contain another."""
    return sorted(
        {form for value in _known(secrets) for form in _forms(value)}, key=len, reverse=True
    )


def words_of(secrets: Iterable[object]) -> set[str]:
    """Returns what known secrets look like in a decoded copy of a text."""
    return {word for value in _known(secrets) for word in _words(value)}


def _known(secrets: Iterable[object]) -> set[str]:
    return {value for value in secrets if isinstance(value, str) and is_worth_hiding(value)}


def environment_secrets() -> frozenset[str]:
    """Returns the environment values that are secrets, by name or by form."""
    return _of_environment(tuple(os.environ.items()))


def _without_wrapped(text: str, forms: Iterable[str]) -> str:
    """Removes secrets that are split by line breaks, as base64 often is."""
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
def _words(value: str) -> frozenset[str]:
    """Returns a secret and its forms that decoding does not undo.

    A secret that has something like an encoded character itself is decoded as well, where all of it is not encoded.
    """
    words = {value, value.upper(), value.lower(), *_base64(value)}
    for _ in range(MAX_LAYERS):
        value = decoded_word(value)
        words.add(value)
    # Of plus signs and blanks alone, a word would be found in the indentation of a text.
    return frozenset(word for word in words if is_worth_hiding(word.strip(" +")))


@functools.lru_cache(maxsize=1024)
def _forms(value: str) -> frozenset[str]:
    """Returns a secret and its encodings in URLs, JSON, HTML, base64, hexadecimal and lists of bytes, and in upper or lower case.

    Other transformations (reversed, compressed, split by invisible characters) do not happen by accident: a tool that
    applies one has decided to pass the secret on.
    """
    data = value.encode("utf-8", "replace")
    forms = {value, json.dumps(value)[1:-1], repr(value)[1:-1], html.escape(value)}
    forms |= {json.dumps(value, ensure_ascii=False)[1:-1], ascii(value)[1:-1], repr(data)[2:-1]}
    whole = quote(data, safe="")
    # Twice, as in a URL that is a parameter of another.
    for quoted in (quote(data), whole, quote_plus(data), quote(whole, safe="")):
        forms |= {quoted, re.sub("%..", lambda found: found[0].lower(), quoted)}
    for hexadecimal in (data.hex(), data.hex().upper()):
        pairs = [hexadecimal[at : at + 2] for at in range(0, len(hexadecimal), 2)]
        forms |= {hexadecimal, *(sign.join(pairs) for sign in (":", "-", " "))}
        # Every character escaped, as some clients and loggers write values that they do not trust.
        forms |= {"".join(f"{before}{pair}" for pair in pairs) for before in ("%", "\\x", "\\u00")}
    forms |= {
        "".join(form.format(ord(char)) for char in value)
        for form in ("&#{};", "&#x{:x};", "&#x{:X};")
    }
    forms |= _lists(data)
    forms |= {value.upper(), value.lower(), *_base64(value)}
    return frozenset(form for form in forms if len(form) >= LEAST_CHARS)


def _lists(data: bytes) -> set[str]:
    """Returns the inner part of lists of bytes, as JSON, `repr` and dumps write a buffer."""
    return {
        separator.join(form.format(byte) for byte in data)
        for form in ("{}", "0x{:02x}", "0x{:02X}", "0x{:x}")
        for separator in (", ", ",", " ")
    }


def _base64(value: str) -> set[str]:
    """Returns what is certain of a secret in base64, where it may begin at any offset within the encoded text."""
    data = value.encode("utf-8", "replace")
    forms = set()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).decode().rstrip("=")
        inner = encoded[(0, 2, 3)[before] : len(encoded) - bool((before + len(data)) % 3)]
        forms |= {inner, inner.replace("+", "-").replace("/", "_")}
    return forms


class SignatureText:
    """A type or a default in a signature, as the text to show for it."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


_HIDDEN_DEFAULT = SignatureText("...")

# Defaults of these types are shown; the `repr` of other classes may say anything.
_SHOWN_DEFAULTS = (bool, int, float, complex, type(None), type(...), type, enum.Enum, bytes)


def shown_signature(signature: inspect.Signature) -> inspect.Signature:
    """Returns the signature that a cell or a prompt may see, with `...` for hidden defaults."""
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
    if isinstance(value, SignatureText):
        return redact_secrets(repr(value)) == repr(value)
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
