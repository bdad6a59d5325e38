"""The guest's lazy text, run by this Python with a host that is a string."""

from __future__ import annotations

import itertools

import pytest

from sandbox_runtime.guest.texts.host_calls import HostConnection
from sandbox_runtime.guest.texts.lazy_text import LazyText


@pytest.fixture
def lazy(monkeypatch):
    """Creates lazy texts from strings."""
    monkeypatch.setattr(HostConnection, "used", False)

    def make(content):
        def ask(_, operation, start, stop):
            assert operation == "read"
            return content[start:stop]

        monkeypatch.setattr(HostConnection, "ask", ask)
        return LazyText(1, "TextFile", "t.txt")

    return make


def test_every_chunk_has_something_new(lazy):
    """Each chunk begins with the overlap and adds to it; together they are the text."""
    for length in range(12):
        content = "abcdefghijkl"[:length]
        text = lazy(content)
        for size in range(1, 14):
            for overlap in range(size):
                chunks = list(text.chunks(size, overlap))

                assert "".join([*chunks[:1], *(chunk[overlap:] for chunk in chunks[1:])]) == content
                assert all(len(chunk) == size for chunk in chunks[:-1])
                assert all(len(chunk) > overlap for chunk in chunks[1:])
                assert all(a.endswith(b[:overlap]) for a, b in itertools.pairwise(chunks))


def test_chunks_of_eight_characters(lazy):
    """A text that ends with a chunk has no further chunk of only the overlap."""
    assert list(lazy("abcdefgh").chunks(5, overlap=2)) == ["abcde", "defgh"]


@pytest.mark.parametrize("end", ["", "\n", "\r", "\r\n", "\n\r\n"])
def test_the_last_line_comes_without_its_end(lazy, end):
    """The text after the last line feed is a line, and CR is removed from it as from others."""
    lines = list(lazy(f"one\r\ntwo{end}"))

    assert lines == ["one", "two", *([""] if end == "\n\r\n" else [])]
