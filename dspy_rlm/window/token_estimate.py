"""Estimates the tokens of a root LM's prompts: by characters, calibrated with the counts that the LM reports.

No tokenizer is run: they differ by model. The counts of an LM come with its replies, also from DSPy's cache, so that
equal runs estimate alike.
"""

from __future__ import annotations

import re

# Characters of ASCII per token, and bytes of UTF-8 for everything else. With these numbers the estimate is above the
# counts of four tokenizers (cl100k, o200k, DeepSeek's and Anthropic's) for prose, code, JSON, logs, CSV, CJK, Cyrillic,
# Arabic and Hindi; the closest is a log with 0.98 of it.
CHARS_A_TOKEN = 3.6
SIGNS_A_TOKEN = 1.6
BYTES_A_TOKEN = 2.0

# Digests, keys and base64 have no words, so their tokens are short.
ENCODED_CHARS_A_TOKEN = 1.35
_ENCODED = re.compile(r"[A-Za-z0-9+/_=-]{32,}")

_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ "
_NOT_ASCII = bytes(range(128, 256))

# The calibration is not trusted beyond these: an LM that reports other numbers counts something else.
LEAST_FACTOR, MOST_FACTOR = 0.5, 4.0


def weight_of(text: str) -> float:
    """Returns an estimate of the tokens of a text, mostly above their number."""
    encoded = sum(len(run) for run in _ENCODED.findall(text))
    data = (_ENCODED.sub("", text) if encoded else text).encode("utf-8", "replace")
    plain = data.translate(None, _NOT_ASCII)
    signs = plain.translate(None, _LETTERS)
    return (
        (len(plain) - len(signs)) / CHARS_A_TOKEN
        + len(signs) / SIGNS_A_TOKEN
        + (len(data) - len(plain)) / BYTES_A_TOKEN
        + encoded / ENCODED_CHARS_A_TOKEN
    )


class TokenEstimate:
    """The tokens of the prompts of one run: their unchanging part, and the part that the run writes."""

    def __init__(self, static_chars: int = 0) -> None:
        """Begins with the characters of the instructions, which the first report corrects."""
        self._static = static_chars / CHARS_A_TOKEN
        self._factor = 1.0
        self._last: tuple[float, int] | None = None  # weight and tokens of the last counted prompt

    def whole(self, weight: float) -> int:
        """Returns the tokens of a prompt whose changing part has this weight."""
        total = self._static + weight
        if self._last is not None and total >= self._last[0]:
            # It begins with the prompt that was counted; only what is new is estimated.
            counted, tokens = self._last
            return tokens + int((total - counted) * max(self._factor, 1.0))
        return int(total * self._factor)

    def part(self, weight: float) -> int:
        """Returns the tokens of a part of a prompt."""
        return int(weight * self._factor)

    def weight_for(self, tokens: float) -> float:
        """Returns the weight of the changing part of a prompt of so many tokens."""
        if self._last is not None and tokens >= self._last[1]:
            counted, known = self._last
            return counted + (tokens - known) / max(self._factor, 1.0) - self._static
        return tokens / self._factor - self._static

    def weight_of_part(self, tokens: float) -> float:
        """Returns the weight of a part of so many tokens."""
        return tokens / self._factor

    def counted(self, chars: int, sent_chars: int, sent_weight: float, tokens: int) -> None:
        """Learns from a prompt that the LM has counted.

        Args:
            chars: Its characters.
            sent_chars: The characters of its changing part.
            sent_weight: The weight of its changing part.
            tokens: Its tokens, as the LM reports them.
        """
        self._static = max(chars - sent_chars, 0) / CHARS_A_TOKEN
        total = self._static + sent_weight
        if total <= 0 or tokens <= 0:
            return
        self._factor = min(max(tokens / total, LEAST_FACTOR), MOST_FACTOR)
        self._last = (total, tokens)
