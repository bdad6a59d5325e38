"""Text of models in HTML: it contains no markup, no invisible characters, and none that change the text around it."""

from __future__ import annotations

import html
import unicodedata

# Categories of characters that are shown by their numbers: controls, formats (as of bidirectional text), surrogates, private
# ones, and separators of lines and paragraphs. Unicode Technical Report 36 describes the attacks with such characters.
_SHOWN_BY_NUMBER = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def escaped(text: str) -> str:
    """Returns a text as HTML, for contents and for quoted attributes."""
    return html.escape(visible(text))


def visible(text: str) -> str:
    """Returns a text with characters that cannot be seen spelled out, as `⟨U+202E⟩`."""
    if text.isprintable():
        return text
    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in _SHOWN_BY_NUMBER
        else f"⟨U+{ord(char):04X}⟩"
        for char in text.replace("\r\n", "\n")
    )
