"""The sources of lazy texts: files in any encoding, and streams."""

from __future__ import annotations

import os

import pytest

from sandbox_runtime import (
    Directory,
    TextChangedError,
    TextFile,
    TextStream,
)
from sandbox_runtime.texts.deadline import Deadline


class TestFiles:
    @pytest.mark.parametrize(
        ("data", "encoding", "text"),
        [
            ("\ufeffaé".encode(), None, "aé"),
            ("aé\n".encode("utf-16"), None, "aé\n"),
            ("aé\n".encode("utf-32"), None, "aé\n"),
            ("aé\n".encode("latin-1"), "latin-1", "aé\n"),
            ("aé\n".encode("utf-16-le"), "utf-16-le", "aé\n"),
            (b"a\xffb", None, "a\ufffdb"),
            (b"", None, ""),
        ],
    )
    def test_encodings(self, tmp_path, data, encoding, text):
        """The byte order mark or a name selects the encoding; invalid bytes are replaced."""
        file = tmp_path / "t.txt"
        file.write_bytes(data)

        assert TextFile(file, encoding=encoding).read(0, 100) == text

    @pytest.mark.parametrize("change", ["append", "truncate", "replace", "touch", "remove"])
    def test_a_changed_file_is_an_error_that_says_so(self, tmp_path, change):
        """A file that was written to, truncated, replaced or removed raises `TextChangedError`."""
        file = tmp_path / "t.txt"
        file.write_text("one\ntwo\n")
        text = TextFile(file)
        assert text.read(0, 3) == "one"

        if change == "append":
            file.write_text("one\ntwo\nthree\n")
        elif change == "truncate":
            os.truncate(file, 2)
        elif change == "replace":
            (tmp_path / "other").write_text("one\ntwo\n")
            (tmp_path / "other").replace(file)
        elif change == "touch":
            os.utime(file, ns=(1, 1))
        else:
            file.unlink()

        with pytest.raises(
            TextChangedError, match="is gone" if change == "remove" else "has changed"
        ):
            text.read(0, 3)

    def test_missing_paths_are_refused_at_once(self, tmp_path):
        """A missing file or folder raises when the input is created."""
        with pytest.raises(FileNotFoundError):
            TextFile(tmp_path / "none.txt")
        with pytest.raises(NotADirectoryError):
            Directory(tmp_path / "none")


class TestStreams:
    def test_pieces_are_read_once_and_only_as_far_as_needed(self):
        """The iterator is consumed once, only as far as cells read; its pieces are spooled."""
        read = []

        def pieces():
            for n in range(1000):
                read.append(n)
                yield f"line {n}\n" * 100

        text = TextStream(pieces())
        assert read == []
        assert text.read(0, 6) == "line 0"
        assert len(read) < 1000
        assert text.length() == sum(len(f"line {n}\n") for n in range(1000)) * 100
        assert len(read) == 1000
        assert text.read(0, 6) == "line 0"

    def test_a_failed_stream_raises_every_time(self):
        """An iterator's failure is never mistaken for the end of the text."""

        def pieces():
            yield "a"
            raise OSError("the line is dead")

        text = TextStream(pieces(), name="feed")
        with pytest.raises(OSError, match="the line is dead"):
            text.length()
        with pytest.raises(RuntimeError, match="feed failed after 1 bytes"):
            text.length()

    def test_only_bounded_text_is_accepted(self):
        """Bytes and texts beyond `most_bytes` are refused; a lone surrogate is replaced."""
        with pytest.raises(TypeError, match="a str can be an input as it is"):
            TextStream("abc")
        with pytest.raises(TypeError, match="yielded a bytes"):
            TextStream([b"a"]).length()
        with pytest.raises(ValueError, match="more than 10 bytes"):
            TextStream(("aaa" for _ in range(9)), most_bytes=10).length()
        assert TextStream(["a\ud800b"]).read(0, 9) == "a\ufffdb"

    def test_an_endless_stream_times_out(self):
        """The length of an endless stream raises `TimeoutError` at the deadline."""
        text = TextStream("a" * 1000 for _ in iter(int, 1))

        with pytest.raises(TimeoutError):
            text.length(Deadline(0.05, "x"))
