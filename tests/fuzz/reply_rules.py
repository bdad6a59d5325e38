"""The rules that hold for every reply: it becomes code that it contains or a message, and the code is read as itself."""

from __future__ import annotations

import html
import re
import unicodedata

from dspy_rlm.replies.channels import RawReply
from dspy_rlm.replies.fences import fenced
from dspy_rlm.replies.messages import PROBLEMS, REPAIRS
from dspy_rlm.replies.python_source import tree_of
from dspy_rlm.replies.reader import Reading, read_reply

_WORD = re.compile(r"\w+")
_LINE_END = re.compile(r"\\+[nrtfb]")
_CODE_POINT = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))")

# Removed by the reader, and by these rules: characters of no width, and U+FFFD in the place of half a character.
_NOTHING = dict.fromkeys(map(ord, "\0\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f\ufffd"))


def check(text: str, *, is_cut: bool = False) -> Reading:
    """Reads a text, and checks the rules. Returns the reading."""
    reading = read_reply(RawReply(text, is_cut=is_cut))
    check_reading(reading)
    if reading.code:
        assert contains(text, reading), (text, reading.code)
        check_idempotence(reading.code)
    return reading


def check_reading(reading: Reading) -> None:
    """Checks that a reading is code or a message, in valid Unicode, with known repairs and causes."""
    assert bool(reading.code) != bool(reading.problem)
    assert reading.cause in {*PROBLEMS, ""}
    assert set(reading.repairs) <= set(REPAIRS)
    "".join([reading.code, reading.reasoning, reading.problem, *reading.notes]).encode()


def contains(text: str, reading: Reading) -> bool:
    """Returns whether the words of the code occur in the reply in that order, whatever its escapes and characters are.

    Only the `pass` that takes the place of a shell line in a block is new.
    """
    words = plain(text)
    at = 0
    for word in _WORD.findall(plain(reading.code)):
        found = words.find(word, at)
        if found < 0 and word == "pass" and "shell_lines" in reading.repairs:
            continue
        if found < 0:
            return False
        at = found + len(word)
    return True


def plain(text: str) -> str:
    """Returns a text without escapes, entities and characters of other kinds, which repairs replace."""
    text = _CODE_POINT.sub(lambda match: chr(int(match[1] or match[2], 16)), text)
    for _ in range(3):
        text = html.unescape(text)
    text = _LINE_END.sub(" ", text).replace("\\", "")
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return unicodedata.normalize("NFKC", text.translate(_NOTHING))


def check_idempotence(code: str) -> None:
    """Checks that code, written as the prompt asks for it, is read as the same code."""
    reply = f"[[ ## reasoning ## ]]\nr\n\n[[ ## code ## ]]\n{fenced(code)}\n\n[[ ## completed ## ]]"
    for form in (reply, fenced(code)):
        again = read_reply(RawReply(form))
        if tree_of(code) is not None:
            assert again.code == code.strip("\n"), (code, again.code or again.problem)
            assert not again.repairs
        else:
            check_reading(again)


def replies(data: bytes) -> None:
    """Reads a reply, as text, as thoughts, or as the arguments of a tool call; the first byte says which."""
    kind, text = (data[0], data[1:].decode("utf-8", "surrogateescape")) if data else (0, "")
    is_cut = bool(kind & 1)
    if kind & 6 == 2:
        check_reading(read_reply(RawReply("", text, is_cut=is_cut)))
    elif kind & 6 == 4:
        call = {"function": {"name": "python", "arguments": text}}
        check_reading(read_reply(RawReply(None, "", [call], is_cut)))
    else:
        check(text, is_cut=is_cut)
