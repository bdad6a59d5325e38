"""Keeps the host's secrets out of what a sandbox is told of errors.

A tool's result is the tool's own doing. The text of an exception is nobody's: it may quote a header, a
command line or an address with a key in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

# Names of environment variables that are known to hold secrets.
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|AUTH", re.IGNORECASE)

# Shorter values are words that stand in many texts.
_LEAST_CHARS = 8

HIDDEN = "[secret]"


def without_secrets(text: str, more: Iterable[object] = ()) -> str:
    """The text with each secret of the environment, and each of `more`, replaced by `[secret]`."""
    known = [value for name, value in os.environ.items() if _SECRET_NAME.search(name)]
    known += [value for value in more if isinstance(value, str)]
    # The longest first: one may contain another.
    for value in sorted({value for value in known if len(value) >= _LEAST_CHARS}, key=len)[::-1]:
        text = text.replace(value, HIDDEN)
    return text
