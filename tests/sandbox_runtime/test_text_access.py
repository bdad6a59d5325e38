"""Lazy texts on the host: ranges, lines and searches for strings are those of a str."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_texts import LETTERS, forever, in_small_blocks


class TestLikeAString:
    @settings(deadline=None, max_examples=200)
    @given(LETTERS, st.integers(0, 70), st.integers(0, 70))
    def test_ranges_equal_slices_of_the_text(self, content, start, stop):
        """Positions are characters, whatever they take in bytes."""
        text = in_small_blocks(content.encode())

        assert text.read(start, stop) == content[start:stop]
        assert text.length() == len(content)

    @settings(deadline=None, max_examples=200)
    @given(LETTERS, st.text("aab\né€\ufffd", max_size=3), st.integers(0, 40), st.integers(0, 70))
    def test_find_rfind_and_count_agree_with_str(self, content, needle, start, stop):
        """The results are those of `str` across blocks, within bounds, and for overlapping matches."""
        text = in_small_blocks(content.encode())

        for end in (None, stop):
            assert text.find(needle, start, end, forever()) == content.find(needle, start, end)
            assert text.rfind(needle, start, end, forever()) == content.rfind(needle, start, end)
            assert text.count(needle, start, end, forever()) == content.count(needle, start, end)

    @settings(deadline=None, max_examples=200)
    @given(LETTERS)
    def test_lines_are_those_between_line_feeds(self, content):
        """Every position has a line number, and every line a start."""
        index = in_small_blocks(content.encode()).index

        for at in range(len(content)):
            assert index.line_of_char(at, forever()) == content.count("\n", 0, at) + 1
        begins = [0, *(m.end() for m in re.finditer("\n", content))]
        for number, begin in enumerate(begins, 1):
            assert index.char_of_line(number, forever()) == begin
        assert index.char_of_line(len(begins) + 1, forever()) is None

    @settings(deadline=None, max_examples=300)
    @given(
        st.lists(
            st.sampled_from(
                [
                    b"a",
                    b"\n",
                    b"\xc3",
                    b"\xa9",
                    b"\xe2",
                    b"\x82",
                    b"\xac",
                    b"\xf0",
                    b"\x9f",
                    b"\xff",
                ]
            )
        ).map(b"".join)
    )
    def test_invalid_bytes_are_replaced_as_python_does(self, data):
        """Blocks end at character boundaries, so decoding them one by one equals decoding the whole."""
        text, whole = in_small_blocks(data), data.decode("utf-8", "replace")

        assert text.read(0, 1000) == whole
        assert text.length() == len(whole)
        for needle in ("a", "é", "\ufffd", "\ufffda"):
            assert text.find(needle, 1, None, forever()) == whole.find(needle, 1)

    @pytest.mark.parametrize("chars", [10, 100])
    def test_a_preview_is_the_beginning_and_the_end(self, chars):
        """A preview needs no counting of characters."""
        text = in_small_blocks(("é" * 80 + "end").encode())

        preview = text.preview(chars)

        gap = "\n[... 146 bytes not shown ...]\n"
        assert preview == ("é" * 5 + gap + "ééend" if chars == 10 else "é" * 80 + "end")
