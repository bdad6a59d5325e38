"""A secret that a library has shortened is removed from errors too."""

from __future__ import annotations

import random

import pydantic
import pytest

from sandbox_runtime.helpers import redact_secrets
from tests.measuring import Cost

SECRET = "q7Zr-Lm02-horse-9xTb-Kd51-battery-Vw83-staple-Yp64-Nc27"


class Settings(pydantic.BaseModel):
    """Settings of a service with a key of the wrong type."""

    key: int


@pytest.mark.parametrize("text", [SECRET, f"https://user:{SECRET}", f"{SECRET}@host/", SECRET * 2])
def test_an_error_of_pydantic(text):
    """Neither end of an input with a secret is shown."""
    with pytest.raises(pydantic.ValidationError) as caught:
        Settings(key=text)

    shown = redact_secrets(str(caught.value), [SECRET])

    assert not any(SECRET[at : at + 8] in shown for at in range(len(SECRET) - 7))
    assert "Input should be a valid integer" in shown


@pytest.mark.parametrize("sign", ["...", "\u2026", "....", " ...".strip()])
@pytest.mark.parametrize("kept", [8, 9, 20, len(SECRET) - 1])
def test_any_length(sign, kept):
    """However much is kept, from 8 characters on, it is removed."""
    text = f"before {SECRET[:kept]}{sign}{SECRET[-kept:]} after"

    assert redact_secrets(text, [SECRET]) == f"before [secret]{sign}[secret] after"


@pytest.mark.parametrize(
    "text", ["horse...", "...staple", f"x{SECRET[1:9]}...", f"...{SECRET[-9:-1]}", "a ... b", "..."]
)
def test_other_texts_stay(text):
    """Words that are no end of a secret, or short ones, stay beside an ellipsis."""
    assert redact_secrets(text, [SECRET]) == text


def test_one_that_ends_where_another_begins():
    """Of two secrets with the same beginning, the longer piece is removed."""
    other = f"{SECRET[:12]}-and-something-else"

    assert redact_secrets(f"{other[:20]}...", [SECRET, other]) == "[secret]..."


def test_many_signs_take_little():
    """The time is linear in the text, whatever stands beside the signs."""
    piece = random.Random(1).choice([SECRET[:8], SECRET[-8:]])

    with Cost() as cost:
        redact_secrets(f"{piece}..." * 15_000, [SECRET, *(f"{SECRET[:30]}{n}" for n in range(30))])

    assert cost.cpu_seconds < 5.0
