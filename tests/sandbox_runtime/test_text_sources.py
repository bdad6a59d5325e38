"""The sources of lazy texts: files in any encoding, and streams."""

from __future__ import annotations

import gzip
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
            (b"a\xffb", None, "a\u00ffb"),
            ("é€\x81".encode("cp1252", "replace") + b"\x81", None, "é€?\x81"),
            ("aé\n".encode("utf-16-le") * 9, None, "aé\n" * 9),
            ("aé\n".encode("utf-16-be") * 9, None, "aé\n" * 9),
            ("éé".encode() + b"\xe9", None, "éé\ufffd"),
            (b"a\xffb", "utf-8", "a\ufffdb"),
            (b"a" + bytes(64) + b"b", None, "a" + "\0" * 64 + "b"),
            (b"\x89PNG\0", "latin-1", "\x89PNG\0"),
            (b"", None, ""),
        ],
    )
    def test_encodings(self, tmp_path, data, encoding, text):
        """A name, the byte order mark or the bytes select the encoding; invalid bytes are replaced."""
        file = tmp_path / "t.txt"
        file.write_bytes(data)

        assert TextFile(file, encoding=encoding).read(0, 100) == text

    @pytest.mark.parametrize(
        ("data", "note"),
        [
            ("é\n".encode(), ""),
            ("é\n".encode("utf-16"), ""),
            (b"\xe9\n", "; not UTF-8, read as windows-1252; name another encoding with encoding="),
            ("a\n".encode("utf-16-le") * 9, "; has no byte order mark, read as UTF-16-LE"),
            ("éé".encode() + b"\xe9", "; some bytes are not UTF-8 and are read as U+FFFD"),
            (
                "é".encode("utf-16") + b"\0\xd8a\0",
                "; some bytes are not UTF-16 and are read as U+FFFD",
            ),
            (b"a\0b", "; 1 NUL bytes in the parts examined"),
            (gzip.compress(b"a", mtime=0), "; 21 bytes of gzip, decompressed as it is read"),
        ],
    )
    def test_a_guess_is_not_silent(self, tmp_path, data, note):
        """The size, which is in the prompt and in the cell's repr, says what was assumed."""
        file = tmp_path / "t.txt"
        file.write_bytes(data)

        assert TextFile(file).size.partition("bytes")[2] == note

    @pytest.mark.parametrize("place", [100_000, 2_000_000, 3_999_000])
    def test_an_encoding_is_recognized_late_in_a_file(self, tmp_path, place):
        """The beginning, the middle and the end are examined: a log may have its first umlaut late."""
        data = bytearray(b"a" * 4_000_000)
        data[place : place + 3] = b"\xe9\xe9\xe9"
        file = tmp_path / "t.txt"
        file.write_bytes(data)

        assert TextFile(file).note.startswith("not UTF-8") == (place != 100_000)

    @pytest.mark.parametrize("cut", range(4))
    def test_samples_may_cut_a_character(self, tmp_path, cut):
        """A character at the border of a sample is not taken for invalid bytes."""
        file = tmp_path / "t.txt"
        file.write_bytes(b"a" * cut + "\U0001f600".encode() * 200_000)

        assert TextFile(file).note == ""

    @pytest.mark.parametrize(
        ("data", "kind"),
        [
            (b"%PDF-1.7\nall ASCII", "a PDF document"),
            (b"PK\x03\x04\x14\0\0\0\x08\0", "a ZIP archive"),
            (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "a PNG image"),
            (bytes(257) + b"ustar", "a tar archive"),
            (gzip.compress(bytes(257) + b"ustar", mtime=0), "a tar archive, compressed with gzip"),
            (b"\x04\x22\x4d\x18\1\2\3", "compressed with LZ4"),
            (bytes(range(1, 256)), "binary data"),
            (bytes(10), "binary data"),
        ],
    )
    def test_what_is_no_text_is_refused(self, tmp_path, data, kind):
        """The message names the kind and what to do; with an encoding the file is read all the same."""
        file = tmp_path / "t"
        file.write_bytes(data)

        with pytest.raises(ValueError, match=f"t is {kind}.*not a text. Convert it"):
            TextFile(file)
        assert TextFile(file, encoding="latin-1").length()

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
        with pytest.raises(FileNotFoundError, match="There is no folder"):
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
        with pytest.raises(TypeError, match="pieces of text, not of bytes"):
            TextStream([b"a"]).length()
        with pytest.raises(ValueError, match="more than 10 bytes"):
            TextStream(("aaa" for _ in range(9)), most_bytes=10).length()
        assert TextStream(["a\ud800b"]).read(0, 9) == "a\ufffdb"

    def test_an_endless_stream_times_out(self):
        """The length of an endless stream raises `TimeoutError` at the deadline."""
        text = TextStream("a" * 1000 for _ in iter(int, 1))

        with pytest.raises(TimeoutError):
            text.length(Deadline(0.05, "x"))
