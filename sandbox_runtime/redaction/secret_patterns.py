"""Recognises secrets by their name and by their form. Knows no environment and no LM.

Every pattern is linear in the length of the text, which may be hostile.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

HIDDEN = "[secret]"

# Shorter values are words that occur in many texts.
LEAST_CHARS = 8

# Common settings of variables named AUTH, KEY and the like that are also common words.
_ORDINARY = frozenset(
    {
        "anonymous", "automatic", "certificate", "disabled", "enabled", "external", "internal",
        "localhost", "optional", "password", "plaintext", "postgres", "required", "username",
    }
)  # fmt: skip

_SECRET_NAME = re.compile(
    r"(?<!MON)(?<!TUR)(?<!DON)(?<!HOC)(?<!JOC)(?<!WHIS)"
    r"KEY(?!BOARD|MAP|NOTE|PAD|STROKE|[_-]?(?:FRAME|PHRASE|POINT|TERM|WORD))|"
    r"TOKEN(?!I[SZ]|S?[_-]?(?:BUDGET|COUNT|LIMIT|PER[_-]|USAGE))|SECRET(?!AR|IVE|ION)|PASSW(?:OR)?D|PASSPHRASE|"
    r"(?:^|[_-])(?:PG)?PASS(?:$|[_-](?!AT[_-]|COUNT|RATE|RATIO|THRESHOLD))|PGPASS|"
    r"(?:^|[_-])PWD(?:$|[_-])|_PWD|CREDENTIAL|AUTH(?!OR(?!I[SZ])|ENTIC(?!AT))|COOKIE|BEARER|WEBHOOK|PRIVATE|"
    r"(?:AMZ|GOOG|HMAC|OSS|SAS|SHA\d{0,3}|ACCESS|URL|WEBHOOK)[_-]?SIGNATURE|(?:^|[_-])X[_-][A-Z_-]{0,40}SIGNATURE|"
    r"(?:^|[_-])(?:SAS|DSN|PAT|SIG|CERT|JWT|SALT)(?:$|[_-])|CONN(?:ECTION)?[_-]?STR|SESSION[_-]?ID",
    re.IGNORECASE,
)

# Numbers of tokens: `max_tokens`, `maxCompletionTokens`. Those of access and refresh are secrets.
_TOKENS = re.compile(
    r"(?:^|[_-])(?:max[_-]?new|budget|cached|completion|input|max|min|n|num|output|prompt|reasoning|thinking|total)"
    r"[_-]?tokens$",
    re.IGNORECASE,
)
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

# Variables that are not secret, despite their names.
_HARMLESS_NAMES = frozenset({"PWD", "OLDPWD", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"})

# Keys and tokens with a telling prefix.
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    r"(?:sk|pk|rk|gsk|xai|pplx|nvapi|r8|fw|tvly|key)[-_](?=[\w-]{0,60}\d)[\w-]{16,256}"
    r"|(?:ghp|gho|ghu|ghs|ghr|hf|npm|dop_v1|shpat|glpat|pypi|lin_api|secret)[-_](?=[\w-]{0,60}\d)[\w-]{16,256}"
    r"|github_pat_\w{20,256}|xox[abeoprs]-[\w-]{10,256}|(?:AKIA|ASIA|AGPA|AROA)[A-Z0-9]{16}"
    r"|AIza[\w-]{30,60}|ya29\.[\w.-]{20,512}|SG\.[\w-]{16,64}\.[\w-]{16,64}"
    r"|eyJ[\w-]{8,2048}\.[\w-]{8,4096}(?:\.[\w-]{0,2048})?"
    r")"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
_HOOK = re.compile(
    r"(?<=hooks\.slack\.com/)[\w/-]{8,200}|(?<=/api/webhooks/)[\w/-]{8,200}"
    r"|(?<=api\.telegram\.org/)bot[\w:-]{8,100}"
)

# `scheme://user:password@host`, and the same without a scheme, as clients shorten it.
_USER_IN_URL = re.compile(
    r"(?<=://)(?![^/\s@]{0,200}\[secret\]@)([^/\s:@\"'<>?#]{1,200}:)?[^/\s\"'<>?#]{1,8192}@"
)
_USER_WITHOUT_SCHEME = re.compile(
    r"(?<![\w.%+:/@-])(?!(?:mailto|sips?|xmpp|acct):)([\w.%+-]{1,100}:)[^\s:@/\"'<>]{1,200}@(?=[\w\[])"
)

_NAME = (
    r"[\w.-]{0,40}(?:key|token|secret|passw(?:or)?d|passphrase|pwd|signature|sig|credentials?|auth|sas|jwt)"
    r"[\w-]{0,20}"
)
_IN_QUERY = re.compile(rf"([?&;]{_NAME}=)(?!\[secret)[^&\s\"'<>#;]{{1,4096}}", re.IGNORECASE)
_VALUE_NAME = (
    r"(?:api[_-]?key|access[_-]?key|account[_-]?key|shared[_-]?access[_-]?key|private[_-]?key|"
    r"subscription[_-]?key|(?:client[_-]?|app[_-]?)?secret(?:[_-]?access)?(?:[_-]?key)?|password|passwd|pwd|"
    r"passphrase|(?:access|refresh|id|auth|session|bearer|security)?[_-]?token|credentials?)"
)
_NOT_A_VALUE = r"(?!\[secret|(?:None|str|int|float|bool|bytes|dict|list|Any|Optional)\b|null\b|True\b|False\b|true\b|false\b|\*\*|<|SecretStr)"
_ASSIGNED = re.compile(
    rf"({_VALUE_NAME}['\"]?\s?=\s?['\"]?){_NOT_A_VALUE}"
    r"[^\s'\",;&)}\]]{6,4096}",
    re.IGNORECASE,
)
_QUOTED = re.compile(
    rf"(['\"][\w.-]{{0,30}}{_VALUE_NAME}['\"]\s?:\s?['\"]){_NOT_A_VALUE}[^'\"\n]{{4,4096}}",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"((?:proxy-)?authorization|(?:x-)?api-key|x-goog-api-key|ocp-apim-subscription-key|"
    r"x-auth-token|x-amz-security-token|(?:set-)?cookie)(['\"]?\s{0,3}[:=,]\s{0,3}['\"]?)"
    rf"((?:bearer|basic|token|digest|negotiate|apikey)\s{{1,3}})?{_NOT_A_VALUE}[^\s'\",;&}}\]]{{3,4096}}",
    re.IGNORECASE,
)
_BEARER = re.compile(
    r"\b((?:bearer|basic)\s{1,3})(?!\[secret)(?=[^\s]{0,100}[\d=])[\w.~+/=-]{8,4096}", re.IGNORECASE
)

_SIZES = re.compile(r"[^A-Za-z0-9]+")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_PATH = re.compile(r"[/~.\\]|[A-Za-z]:[\\/]")
_PAIR = re.compile(rf"({_NAME})\s?=\s?([^;\s&]{{1,4096}})", re.IGNORECASE)
_URL = re.compile(r"[A-Za-z][\w+.-]{1,30}://[^\s\"'<>]{1,4096}")


def is_secret_name(name: object) -> bool:
    """Returns whether a value of this name is a secret."""
    return (
        isinstance(name, str)
        and name not in _HARMLESS_NAMES
        and bool(_SECRET_NAME.search(name[:200]))
        and not _TOKENS.search(_CAMEL_CASE.sub("_", name[:200]))
    )


def without_patterns(text: str) -> str:
    """Removes secrets recognised by form, or by the name before them."""
    if "://" in text:
        text = _USER_IN_URL.sub(rf"\1{HIDDEN}@", text)
        text = _HOOK.sub(HIDDEN, text)
    if "@" in text:
        text = _USER_WITHOUT_SCHEME.sub(rf"\1{HIDDEN}@", text)
    if "-----BEGIN" in text:
        text = _PRIVATE_KEY.sub(HIDDEN, text)
    text = _TOKEN.sub(HIDDEN, text)
    text = _HEADER.sub(rf"\1\2\3{HIDDEN}", text)
    for pattern in (_BEARER, _IN_QUERY, _ASSIGNED, _QUOTED):
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return text


def url_without_secrets(text: str) -> str:
    """Removes users and secret query parameters from the URLs in a text."""
    text = _HOOK.sub(HIDDEN, _USER_IN_URL.sub("", text))
    return _IN_QUERY.sub(rf"\1{HIDDEN}", text)


def is_worth_hiding(value: str) -> bool:
    """Returns whether a value can be removed from texts without hiding ordinary words."""
    return len(value) >= LEAST_CHARS and value.casefold() not in _ORDINARY


def secrets_of(name: object, value: object, depth: int = 0) -> Iterator[str]:
    """Returns the secrets in a named value: all its texts if the name says so, else those by form."""
    named = is_secret_name(name)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        if named and not (_PATH.match(value) and _exists(value)):
            yield from filter(None, (value.strip(), *_pieces(value)))
        yield from secrets_in(value)
    elif depth > 6:
        return
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from secrets_of(name if named else key, part, depth + 1)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for part in value:
            yield from secrets_of(name, part, depth + 1)
    elif callable(reveal := getattr(value, "get_secret_value", None)):
        yield from secrets_of("secret", reveal(), depth + 1)


def _exists(path: str) -> bool:
    try:
        return Path(path[:1024]).exists()
    except (OSError, ValueError):
        return False


def _pieces(value: str) -> Iterator[str]:
    """Returns the parts of a secret that may occur alone: `Bearer x`, `user:x`, the lines of a key."""
    if value.lower().startswith(("bearer ", "basic ", "token ")):
        yield value.split(None, 1)[1]
    if ":" in value and "://" not in value:
        yield value.rpartition(":")[2]
    if "\n" in value:
        yield from (line.strip() for line in value.splitlines() if len(line) >= 2 * LEAST_CHARS)
    for separator in (",", " "):
        if separator in value:
            yield from (part.strip() for part in value.split(separator) if is_opaque(part.strip()))


def secrets_in(value: str) -> Iterator[str]:
    """Returns the secrets in a value by form alone."""
    value = value[:100_000]
    if is_opaque(value):
        yield value
    yield from (found[0] for found in _TOKEN.finditer(value))
    for found in _URL.finditer(value):
        yield from _secrets_of_url(found[0])
    for found in _PAIR.finditer(value):
        yield found[2].strip("'\"")
    for found in _PRIVATE_KEY.finditer(value):
        yield found[0]
        yield from _pieces(found[0])
    if value.lstrip()[:1] in ("{", "["):
        try:
            tree: Any = json.loads(value)
        except (ValueError, RecursionError):
            return
        yield from secrets_of("", tree, depth=1)


def _secrets_of_url(url: str) -> Iterator[str]:
    try:
        parts = urlsplit(url)
        user, password = parts.username or "", parts.password or ""
    except ValueError:
        return
    if parts.netloc.count("@"):
        yield parts.netloc.rpartition("@")[0]
    yield from filter(None, (password, unquote(password)))
    if not password and is_opaque(user):  # a key in place of a user, as some services require
        yield user
    for name, text in parse_qsl(parts.query):
        if is_secret_name(name) or "signature" in name.lower() or is_opaque(text):
            yield text
    opaque = [part for part in parts.path.split("/") if is_opaque(part)]
    yield from opaque
    yield from (found[0] for found in _HOOK.finditer(url))


def is_opaque(value: str) -> bool:
    """Returns whether a word is too random to have been written by a person."""
    if not 16 <= len(value) <= 4096 or _PATH.match(value) or any(map(str.isspace, value)):
        return False
    return bool(_UUID.fullmatch(value)) or any(map(_is_random, _SIZES.split(value)))


def _is_random(piece: str) -> bool:
    if len(piece) < 16 or piece.isalpha() or piece.isdigit():
        return False
    total = len(piece)
    entropy = -sum(n / total * math.log2(n / total) for n in Counter(piece).values())
    return entropy >= 3.0
