"""`strftime` as on Linux. WebAssembly's C library returns an empty text for a format that it does not know.

`datetime` calls `time.strftime`, so replacing that is enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

# The zone of the sandbox, which its C library calls "UTC-0000".
ZONE_NAME = "UTC"
# The formats that the C library here knows, without flags.
_KNOWN = frozenset("aAbBcCdDeFgGhHIjmMnprRStTuUVwWxXyYz%")
_FLAGS = "_-0^#"
# The padding of directives whose value is a number, where it is not "0".
_NUMBERS = frozenset("CdeFgGHIjklmMsSuUVwWyY")

Format = Callable[[str, Any], str]


def linux_strftime(strftime: Callable[..., str]) -> Callable[..., str]:
    """Returns `time.strftime` with all directives of glibc; `strftime` is the original."""

    def replaced(format: str, t: Any = None, /) -> str:
        """strftime(format[, tuple]) -> string

        Converts a time tuple to a string, like the C function of Linux.
        """
        moment = time.localtime() if t is None else t
        whole = strftime(format, moment)
        if "%" not in format or (whole and _is_plain(format)):
            return whole
        return "".join(_pieces(format, moment, strftime))

    return replaced


def _is_plain(format: str) -> bool:
    """Returns whether the C library knows all directives of a format."""
    after = format.split("%%")
    return all(
        piece[:1] in _KNOWN for part in after for piece in part.split("%")[1:] if piece
    ) and (not any(part.endswith("%") for part in after))


def _pieces(format: str, moment: Any, strftime: Format) -> list[str]:
    """Returns the parts of a text: one for each directive, and what stands between them."""
    pieces, at = [], 0
    while (start := format.find("%", at)) >= 0:
        pieces.append(format[at:start])
        at = start + 1
        while at < len(format) and format[at] in _FLAGS:
            at += 1
        flags, digits = format[start + 1 : at], at
        while at < len(format) and format[at].isdecimal():
            at += 1
        width = format[digits:at]
        at += at + 1 < len(format) and format[at] in "EO"
        name = format[at : at + 1]
        at += 1
        text = _value(name, moment, strftime)
        whole = format[start:at]
        pieces.append(whole if text is None else _padded(name, text, flags, width))
    pieces.append(format[at:])
    return pieces


def _value(name: str, moment: Any, strftime: Format) -> str | None:
    """Returns the text of a directive without flags; None if Linux does not know it."""
    if name == "Z":
        return ZONE_NAME
    if name == "k":
        return f"{int(strftime('%H', moment)):2}"
    if name == "l":
        return f"{int(strftime('%I', moment)):2}"
    if name == "P":
        return strftime("%p", moment).lower()
    if name == "s":
        return str(int(time.mktime(moment)))
    return strftime(f"%{name}", moment) if name in _KNOWN and name else None


def _padded(name: str, text: str, flags: str, width: str) -> str:
    if "^" in flags:
        text = text.upper()
    if "#" in flags:
        text = text.lower() if name in "pZ" else text.upper()
    number = name in _NUMBERS
    pad = next((flag for flag in reversed(flags) if flag in "_-0"), "")
    if number and pad:
        digits = text.lstrip(" 0") or "0"
        if pad == "-":
            return digits
        text = digits.rjust(len(text), " " if pad == "_" else "0")
    fill = "0" if (number and name not in "ekl" and pad != "_") or pad == "0" else " "
    # A width is a wish of the cell, and costs memory.
    return text.rjust(min(int(width[:4] or 0), 1000), fill)
