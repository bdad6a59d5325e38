"""Secrets of the host's environment do not enter a cell through an exception's text."""

from __future__ import annotations

import base64
import html
import json
import re
import time
import urllib.parse
from html.entities import codepoint2name
from itertools import product
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_runtime import open_session
from sandbox_runtime.helpers import redact_secrets
from sandbox_runtime.redaction.redact import MAX_CHARS
from sandbox_runtime.redaction.secret_patterns import (
    is_secret_name,
    secrets_of,
    url_without_secrets,
)

KEY = "sk-0123456789abcdef"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", KEY)
    monkeypatch.setenv("DATABASE_PASSWORD", "correct horse")
    monkeypatch.setenv("A_TOKEN", "x")
    monkeypatch.setenv("HARMLESS", "0123456789")


def test_values_of_such_variables():
    """They are removed anywhere in a text; short values and other variables stay."""
    text = f"401 for {KEY}: https://me:correct horse@host/x?y=0123456789"

    assert redact_secrets(text) == "401 for [secret]: https://me:[secret]@host/x?y=0123456789"


def test_what_else_is_secret():
    """The caller's additional secrets are removed too."""
    assert redact_secrets("a hidden word", ["hidden word", None]) == "a [secret]"


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "call", ["tool()", "await tool.aio()", "tool.batched([])", "tool.batched([1])"]
)
def test_an_error_of_a_tool(call):
    """The cell sees the error without the key."""

    def tool(*_):
        raise PermissionError(f"no entry with {KEY}")

    with open_session(tools={"tool": tool}) as session:
        result = session.run_cell(
            f"try:\n    print({call})\nexcept Exception as error:\n    print(repr(error))"
        )

    assert KEY not in str(result)
    assert call == "tool.batched([])" or "no entry with [secret]" in result.output


class Opaque:
    def __repr__(self) -> str:
        return f"Opaque({KEY})"


@pytest.mark.sampled(1)
@pytest.mark.parametrize("call", ["help(tool)", "tool(1, 2, 3, 4, 5)", "print(tool.__doc__)"])
def test_defaults_of_a_tool_are_not_told(call):
    """Defaults that could be keys, or have their own `repr`, are shown as dots; others are shown."""

    def tool(n: int = 5, api_key: str = "not-in-the-environment", text: str = KEY, client=Opaque()):  # noqa: B008
        """Does something."""

    with open_session(tools={"tool": tool}) as session:
        result = session.run_cell(call)

    plain = str(result).replace("'", "").replace("\\", "")
    assert "n: int = 5, api_key: str = ..., text: str = ..., client=..." in plain
    assert KEY not in plain
    assert "not-in-the-environment" not in plain


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("http://me:pw@h/x", "http://me:[secret]@h/x"),
        ("cannot connect to me:pw-1@127.0.0.1:9", "cannot connect to me:[secret]@127.0.0.1:9"),
        ("GET https://h/v1?a=1&api-key=abc&b=2", "GET https://h/v1?a=1&api-key=[secret]&b=2"),
        ("{'Authorization': 'Bearer abcdef'}", "{'Authorization': 'Bearer [secret]'}"),
        ("x-api-key: abcdef", "x-api-key: [secret]"),
        ("password=hunter2 user=bob", "password=[secret] user=bob"),
        ("{'password': 'hunter2'}", "{'password': '[secret]'}"),
        ("sk-proj-0123456789abcdefghij", "[secret]"),
        ("AKIAABCDEFGHIJKLMNOP", "[secret]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----!", "[secret]!"),
        ("https://hooks.slack.com/services/T0/B0/x1y2", "https://hooks.slack.com/[secret]"),
        ("token: expected str, got 5", None),
        ("password: this output is missing", None),
        ("the key=value pairs", None),
        ("mailto:bob@example.com", None),
        ("basic arithmetic and bearer bonds", None),
        ("KeyError: 'api_key'", None),
        ("f(api_key: 'str' = '', authorization: str) missing 1 argument", None),
        ("Client(api_key=None, timeout=5)", None),
        ("no such file: /usr/lib/x86_64-linux-gnu/libfoo1234567890abc.so", None),
        ("expected 3 columns, got 5 in row 123456789012345678", None),
        ("commit 0123456789abcdef0123456789abcdef01234567 not found", None),
    ],
)
def test_what_looks_like_a_secret(text, plain):
    """Secrets are recognised by their form, or by the name before them; ordinary texts stay."""
    assert redact_secrets(text) == (text if plain is None else plain)


@pytest.mark.parametrize(
    ("name", "value", "text", "hidden"),
    [
        ("DATABASE_URL", "postgres://bob:geheim-471@db/x", "auth of bob failed: geheim-471", True),
        (
            "SLACK",
            "https://hooks.slack.com/services/T0/B0/abcdefgh12345678x",
            "abcdefgh12345678x",
            True,
        ),
        ("PGPASS", "h:5432:db:bob:geheim-471", "bad geheim-471", True),
        ("MYSTERY", "f3a9c0d17b2e4f6a8899aabbccdd0011", "f3a9c0d17b2e4f6a8899aabbccdd0011", True),
        (
            "RUN",
            "0f8fad5b-d9cb-469f-a165-70867728950e",
            "0f8fad5b-d9cb-469f-a165-70867728950e",
            True,
        ),
        ("DSN_", "Server=x;Password=abcdefgh;", "abcdefgh", True),
        ("CREDS", '{"private_key": "abcdefghij"}', "abcdefghij", True),
        ("MY_AUTH", "disabled", "it is disabled", False),
        ("GIT_AUTHOR_NAME", "Jane Smith", "by Jane Smith", False),
        ("HOST", "ip-10-0-12-34.ec2.internal", "ip-10-0-12-34.ec2.internal", False),
        ("PWD", "/home/somebody", "/home/somebody", False),
        ("KEYBOARD", "qwertzuiop", "qwertzuiop", False),
    ],
)
def test_what_is_a_secret_of_the_environment(monkeypatch, name, value, text, hidden):
    """Secrets are recognised by the variable's name, and by the form of its value."""
    monkeypatch.setenv(name, value)

    assert (redact_secrets(text) != text) == hidden


@pytest.mark.parametrize(
    "encode",
    [
        lambda s: base64.b64encode(s.encode()).decode(),
        lambda s: base64.b64encode(b"user:" + s.encode() + b"!").decode(),
        lambda s: base64.urlsafe_b64encode(b"?" + s.encode()).decode(),
        lambda s: base64.encodebytes(b"x" * 70 + s.encode() + b"x" * 70).decode(),
        lambda s: s.encode().hex(),
        lambda s: s.encode().hex().upper(),
        lambda s: s.encode().hex(":"),
        lambda s: s.encode().hex(" ").upper(),
        lambda s: urllib.parse.quote(s, safe=""),
        lambda s: "".join(f"%{byte:02X}" for byte in s.encode()),
        lambda s: "".join(f"%{byte:02x}" for byte in s.encode()),
        lambda s: "".join(f"\\u{byte:04x}" for byte in s.encode()),
        lambda s: "".join(f"\\x{byte:02x}" for byte in s.encode()),
        lambda s: "".join(f"&#{ord(char)};" for char in s),
        lambda s: "".join(f"&#x{ord(char):x};" for char in s),
        lambda s: urllib.parse.quote(urllib.parse.quote(s, safe=""), safe=""),
        lambda s: str(list(s.encode())),
        lambda s: json.dumps([*s.encode()], separators=(",", ":")),
        lambda s: s.upper(),
        lambda s: json.dumps({"a": s}),
        lambda s: repr(s),
        lambda s: f"{s[:10]}\n{s[10:]}",
        lambda s: f"'{s[:10]}'\n    '{s[10:]}'",
    ],
)  # fmt: skip
def test_encoded_secrets(encode):
    """Encoded secrets are removed, also inside of longer encoded text and across line breaks."""
    secret = 'a "hidden"/word+\\1234567890'
    plain = redact_secrets(f"before {encode(secret)} after", [secret])

    assert "[secret]" in plain
    assert plain.startswith("before ")
    assert plain.endswith(" after")


def units(text):
    """Returns the UTF-16 units of a text, as JSON and JavaScript escape them."""
    data = text.encode("utf-16-be")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


def in_part(text, chosen):
    """Returns the text with those characters escaped for a URL, in either case."""
    return "".join(
        "".join(f"%{byte:02x}" if at % 3 else f"%{byte:02X}" for byte in char.encode())
        if chosen(at, char)
        else char
        for at, char in enumerate(text)
    )


# As browsers and clients write parts of URLs: `requests` leaves most signs, a form writes blanks as plus signs.
QUOTING = {
    "path": quote,
    "parameter": lambda s: quote(s, safe=""),
    "form": quote_plus,
    "requests": lambda s: quote(s, safe="!#$&'()*+,/:;=?@[]~"),
}

ENCODINGS = {
    **QUOTING,
    **{
        f"{outer} of {inner}": lambda s, a=QUOTING[outer], b=QUOTING[inner]: a(b(s))
        for outer, inner in product(QUOTING, repeat=2)
    },
    "every second character": lambda s: in_part(s, lambda at, char: at % 2 or char == "%"),
    "two of three characters": lambda s: in_part(s, lambda at, char: at % 3 or char == "%"),
    "braces only": lambda s: in_part(s, lambda at, char: char in "{}%"),
    "JSON": json.dumps,
    "JSON of PHP": lambda s: json.dumps(s).replace("/", "\\/"),
    "JSON, not ASCII": lambda s: json.dumps(s, ensure_ascii=False),
    "JSON, not ASCII, of PHP": lambda s: json.dumps(s, ensure_ascii=False).replace("/", "\\/"),
    "JSON in capitals": lambda s: re.sub(
        "[^ -~]|[\"\\\\]", lambda m: "".join(f"\\u{unit:04X}" for unit in units(m[0])), s
    ),
    "JSON in JSON": lambda s: json.dumps(json.dumps(s)),
    "JSON in JSON in a repr": lambda s: repr(json.dumps(json.dumps(s))),
    "JSON in a URL": lambda s: quote(json.dumps(s)),
    "a URL in JSON": lambda s: json.dumps({"url": f"/x?y={quote(s)}"}),
    "JSON in HTML": lambda s: html.escape(json.dumps(s)),
    "HTML": html.escape,
    "HTML twice": lambda s: html.escape(html.escape(s)),
    "HTML of ASCII": lambda s: html.escape(s).encode("ascii", "xmlcharrefreplace").decode(),
    "named entities": lambda s: "".join(
        f"&{codepoint2name[ord(c)]};" if ord(c) in codepoint2name else c for c in s
    ),
    "numbered entities": lambda s: "".join(f"&#{ord(char):07};" for char in s),
    "hexadecimal entities": lambda s: "".join(f"&#x{ord(char):05X};" for char in s),
    "every unit": lambda s: "".join(f"\\u{unit:04x}" for unit in units(s)),
    "every character": lambda s: "".join(f"\\U{ord(char):08x}" for char in s),
    "every character, in braces": lambda s: "".join(f"\\u{{{ord(char):x}}}" for char in s),
    "octal": lambda s: "".join(f"\\{byte:03o}" for byte in s.encode()),
    "repr": repr,
    "ascii": ascii,
    "bytes": lambda s: repr(s.encode()),
    "Latin-1": lambda s: repr(s.encode("latin-1", "backslashreplace")),
    "repr of bytes in a repr": lambda s: repr(repr(s.encode())),
    "escaped for an expression": re.escape,
    "numbers": lambda s: " ".join(map(str, s.encode())),
    "hexadecimal numbers": lambda s: ", ".join(map(hex, s.encode())),
    "hexadecimal numbers in C": lambda s: ",".join(f"0x{byte:02X}" for byte in s.encode()),
    "base64 in a URL": lambda s: quote(base64.b64encode(s.encode()), safe=""),
    "base64 in JSON of PHP": lambda s: base64.b64encode(s.encode()).decode().replace("/", "\\/"),
}  # fmt: skip

SECRETS = [
    "correct horse battery/9",
    "pa/ss=12{x}",
    'p\xe4ssw\xf6rd/1 "x"',
    "a+b c/d&e=f",
    "it's <b> 100% \U0001f600",
    "\u043a\u043b\u044e\u0447-\u043e\u0442/\u0434\u0432\u0435\u0440\u0438",
    "\u65e5\u672c\u8a9e\u306e\u30d1\u30b9\u30ef\u30fc\u30c9",
    "C:\\new\\table%41&lt;x",
    "tab\tline\n{end}",
]


@pytest.mark.sampled(80)
@pytest.mark.parametrize("secret", SECRETS, ids=ascii)
@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS.keys())
def test_secrets_in_usual_encodings(encode, secret):
    """A secret is removed in usual encodings, also in part and nested, and what stands around it stays."""
    plain = redact_secrets(f"before ({encode(secret)}) after%41 &lt;", [secret])
    before, _, rest = plain.partition("[secret]")

    assert re.fullmatch(r"before \((?:b?['\"\\%25]*|&quot;|\{\"url\": \"/x\?y=)*", before)
    assert re.fullmatch(r"\w?(?:['\"\\%25]|&quot;|=|3D|\})*\) after%41 &lt;", rest)


@given(st.sampled_from(SECRETS), st.sets(st.integers(0, 30)), st.sampled_from(["", *QUOTING]))
def test_any_characters_may_be_escaped(secret, chosen, outer):
    """A secret is removed whichever of its characters are escaped for a URL, once or twice."""
    encoded = in_part(secret, lambda at, char: at in chosen or char == "%")
    encoded = QUOTING.get(outer, str)(encoded)

    assert redact_secrets(f"({encoded})", [secret]) == "([secret])"


@given(st.text(st.sampled_from('%25+&#x;\\u0041namp/ "\n\xe4'), max_size=300))
def test_a_text_without_secrets_is_unchanged(text):
    """Escapes of anything else, whole or broken, stay as they are."""
    assert redact_secrets(text, SECRETS[:5]) == text


def test_of_a_secret_within_another_nothing_stays():
    """The longer one is removed, even if it is encoded and the shorter one is not."""
    plain = redact_secrets("/bob-12345%7Brest%7D/", ["bob-12345", "bob-12345{rest}"])

    assert plain == "/[secret]/"


@pytest.mark.parametrize("text", ["        + x", "a+%2B+b", "the pass%77ord of bob: password"])
def test_decoded_words_are_no_secrets(text):
    """Neither indentation nor a common word is removed because a secret could be read as it."""
    assert redact_secrets(text, ["++++++++", "%70assword"]) == text


def test_an_encoded_short_secret_stays():
    """Below eight characters a secret may be a word of any text, also when it is encoded."""
    assert redact_secrets("a%2Fb &auml;", ["a/b", "\xe4"]) == "a%2Fb &auml;"


SECRET_NAMES = """
    api_key apikey apiKey API-KEY OPENAI_API_KEY key keys access_key_id private_key ssh-key signing_key keyring x_api_key
    token tokens access_token access_tokens refresh_token id_token reply_token new_token HF_TOKEN token_url sas_token
    secret client_secret secrets SECRET_KEY aws_secret_access_key
    password passwd PASSWORD DB_PASS PGPASS PGPASSWORD SMTP-PASS pass passphrase db_pwd credentials
    auth authorization Authorization authorisation authentication authenticator oauth auth_header x-auth
    cookie Set-Cookie bearer webhook slack_webhook_url private session_id sessionid
    X-Amz-Signature x-goog-signature hmac_signature shared_access_signature url_signature sha256_signature webhook_signature
    sig sas dsn pat jwt salt cert connection_string conn_str
"""

ORDINARY_NAMES = """
    signature signatures input_signature signature_name signature_cls SIGNATURE design signal
    keyboard keyword keywords keynote keymap keypad keystrokes key_points keypoints key_phrases key_terms keyframes
    monkey turkey donkey hockey jockey whiskey
    max_tokens min_tokens n_tokens num_tokens maxTokens max_completion_tokens maxCompletionTokens max_new_tokens
    prompt_tokens completion_tokens total_tokens budget_tokens reasoning_tokens tokenizer tokenise tokenization
    token_count token_limit token_usage tokens_per_minute
    secretary secretion secretive
    author authors author_name coauthor authored_by authority authentic authenticity
    pass_rate pass_count pass_at_k bypass compass passage passenger passed pattern path spat
    certificate model temperature question answer context documents name PWD OLDPWD GIT_AUTHOR_NAME
"""


@pytest.mark.parametrize("name", SECRET_NAMES.split())
def test_a_name_of_a_secret(name):
    """Values under such names are hidden, and never saved."""
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ORDINARY_NAMES.split())
def test_a_name_of_no_secret(name):
    """A word that only contains one of those is no reason to hide what a user wants to see."""
    assert not is_secret_name(name)


def test_a_signature_in_an_address_is_a_secret():
    """The bare word is one of a program's own; in the query of an address it lets anybody in."""
    url = "https://files.example/a.txt?Expires=1&Signature=abcdefghij"

    assert "abcdefghij" in set(secrets_of("address", url))
    assert "abcdefghij" not in url_without_secrets(url)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("piece", ["a", "a:", "://", "password=", "'", "Bearer ", "x@", "eyJ", "?key=", "sk-", "_", "a.b-c", "\n", "-----BEGIN PRIVATE KEY-----", "authorization:", "hooks.slack.com/", "%41", "%2541", "%25", "%C3", "\\\\", "\\\\u00e4", "\\\\x", "\\\\3", "&#0", "&#x0", "&auml;", "&a", "+", "&amp;", "%73ome-secret-value"])  # fmt: skip
def test_long_texts_take_little(piece):
    """The patterns are linear in the length: an exception's text may be hostile."""

    def seconds(chars: int) -> float:
        text = (piece * chars)[:chars]
        began = time.thread_time()
        redact_secrets(text, ["some-secret-value", "some%20\\\\value"])
        return time.thread_time() - began

    assert seconds(160_000) < 40 * max(seconds(20_000), 0.005)


@pytest.mark.sampled(7)
@pytest.mark.parametrize("at", range(-30, 30, 3))
def test_no_part_of_a_secret_stands_where_a_long_text_is_cut(monkeypatch, at):
    """A cell that controls the length of an error's text could otherwise choose where a secret is cut."""
    secret = "Zx81-mQ22-kLw0-Pq73-Rt55"
    monkeypatch.setenv("SERVICE_TOKEN", secret)
    pads = (MAX_CHARS // 2 + at, 3 * MAX_CHARS)
    for before, after in (pads, pads[::-1]):
        plain = redact_secrets("a" * before + secret + "b" * after)
        assert not any(part in plain for part in secret.split("-"))


def test_many_secrets_do_not_move_the_cut(monkeypatch):
    """Redaction shortens a text; the text that moves closer to the cut is redacted too."""
    secret = "Zx81-mQ22-kLw0-Pq73-Rt55"
    monkeypatch.setenv("SERVICE_TOKEN", secret)
    plain = redact_secrets(f"{secret} " * 20_000)
    assert not any(part in plain for part in secret.split("-"))
