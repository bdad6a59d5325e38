"""The guest's lazy text, run by this Python with a host that is a string."""

from __future__ import annotations

import itertools

import pytest

from sandbox_runtime.guest.texts.host_calls import HostConnection
from sandbox_runtime.guest.texts.lazy_text import LazyText
from sandbox_runtime.guest.values.lazy_sequences import OneWay


@pytest.fixture
def lazy(monkeypatch):
    """Creates lazy texts from strings."""
    monkeypatch.setattr(HostConnection, "used", False)

    def make(content):
        def ask(_, operation, *bounds):
            assert operation in ("read", "length")
            return content[slice(*bounds)] if operation == "read" else len(content)

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
                again = text.chunks(size, overlap)
                assert len(again) == len(chunks)
                assert [again[at] for at in range(len(again))] == again[:] == chunks


def test_chunks_of_eight_characters(lazy):
    """A text that ends with a chunk has no further chunk of only the overlap."""
    assert list(lazy("abcdefgh").chunks(5, overlap=2)) == ["abcde", "defgh"]


def test_chunks_are_used_like_a_list(lazy):
    """Chunks have a length, positions from both ends and slices, and can be read more than once."""
    chunks = lazy("abcdefgh").chunks(3)

    assert (len(chunks), chunks[0], chunks[-1], chunks[1:]) == (3, "abc", "gh", ["def", "gh"])
    assert list(chunks) == list(chunks)
    assert repr(lazy("abcdefgh").chunks(2)) == "['ab', 'cd', 'ef', ... 1 more]"
    with pytest.raises(IndexError):
        chunks[3]


def test_an_iterator_says_what_to_do_where_it_is_used_like_a_list(lazy):
    """The error of an index or of len() names the method and the way on; a loop and next() work as ever."""
    matches = OneWay("finditer", iter("ab"))

    with pytest.raises(TypeError, match=r"which has no \[i\]: use list\(finditer\(\.\.\.\)\)"):
        matches[0]
    with pytest.raises(TypeError, match=r"which has no len\(\)"):
        len(matches)
    assert matches
    assert next(matches) == "a"
    assert list(matches) == ["b"]


@pytest.mark.parametrize("end", ["", "\n", "\r", "\r\n", "\n\r\n"])
def test_the_last_line_comes_without_its_end(lazy, end):
    """The text after the last line feed is a line, and CR is removed from it as from others."""
    lines = list(lazy(f"one\r\ntwo{end}"))

    assert lines == ["one", "two", *([""] if end == "\n\r\n" else [])]
