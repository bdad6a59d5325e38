"""Compressed files as texts: decompressed as they are read, bounded, and refused with a reason."""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import os
import sys

import pytest

from sandbox_runtime import Directory, TextFile
from sandbox_runtime.helpers import UnreadableTextError
from sandbox_runtime.texts import directory, lazy_text
from sandbox_runtime.texts.bytes import DiskAllowance, SpooledBytes
from sandbox_runtime.texts.compression import decompressed, decompressor
from sandbox_runtime.texts.deadline import Deadline

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# The fastest preset of xz: the others take seconds for what these tests compress.
FORMATS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": functools.partial(lzma.compress, preset=0),
    "Zstandard": lambda data: zstd.compress(
        data, options={zstd.CompressionParameter.checksum_flag: 1}
    ),
}
# More than one piece of what a file is read in, also when it is compressed.
NOISE_BYTES = 1_500_000
LINES = "".join(f"line {n} é\n" for n in range(200_000))


@pytest.fixture(params=FORMATS)
def compress(request):
    """A function that compresses, by each of the formats."""
    return FORMATS[request.param]


def texts(tmp_path, data):
    """The file as a text."""
    file = tmp_path / "app.log"
    file.write_bytes(data)
    return TextFile(file)


class TestReading:
    def test_the_content_is_read_by_its_bytes_not_its_name(self, tmp_path, compress):
        """A rotated log is a text like any other: length, lines and searches are those of its content."""
        text = texts(tmp_path, compress(LINES.encode()))

        assert text.length() == len(LINES)
        assert text.read(100, 120) == LINES[100:120]
        assert text.count("line", 0, None, Deadline()) == 200_000

    def test_only_as_much_is_decompressed_as_is_read(self, tmp_path, compress):
        """The beginning of a text of any size costs little."""
        text = texts(tmp_path, compress(b"a" * 50_000_000))

        assert text.read(0, 10) == "a" * 10
        assert text.source.size < 5_000_000

    def test_several_streams_in_a_row_are_one_text(self, tmp_path, compress):
        """As `cat a.gz b.gz` makes them."""
        text = texts(tmp_path, compress(b"one ") + compress(b"") + compress(b"two"))

        assert text.read(0, 99) == "one two"

    def test_padding_after_the_last_stream_is_ignored(self, tmp_path, compress):
        """Tapes and disk images pad files, as other programs tolerate."""
        assert texts(tmp_path, compress(b"one") + bytes(512)).read(0, 99) == "one"

    def test_the_encoding_of_the_content_is_recognized(self, tmp_path, compress):
        """It is decompressed first and decoded then."""
        text = texts(tmp_path, compress("é\n".encode("utf-16")))

        assert text.read(0, 99) == "é\n"

    def test_frames_that_zstandard_skips(self, tmp_path):
        """Frames with data of another program, as `pzstd` writes them, are no part of the text."""
        skipped = b"\x5a\x2a\x4d\x18\x04\x00\x00\x00abcd"

        text = texts(tmp_path, skipped + zstd.compress(b"one ") + skipped + zstd.compress(b"two"))

        assert text.read(0, 99) == "one two"

    @pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 1024 * 1024 + 1])
    def test_sizes_at_the_borders_of_pieces(self, tmp_path, compress, size):
        """Nothing is lost where a piece ends with the stream."""
        assert texts(tmp_path, compress(b"a" * size)).length() == size


class TestRefusals:
    def test_a_file_that_ends_early(self, tmp_path, compress):
        """The part that can be read is read; the missing part is an error each time, never the end of the text."""
        noise = os.urandom(NOISE_BYTES).hex().encode()
        text = texts(tmp_path, compress(noise)[:-1000])

        assert text.read(0, 100) == noise[:100].decode()
        for _ in range(2):
            with pytest.raises(
                UnreadableTextError, match=r"app.log ends early: .* a part of the text is missing"
            ):
                text.length()

    def test_damaged_data(self, tmp_path, compress):
        """A wrong checksum or garbage is an error that names the file."""
        data = bytearray(compress(os.urandom(NOISE_BYTES).hex().encode()))
        data[-2000:-1500] = bytes(500)
        text = texts(tmp_path, bytes(data))

        with pytest.raises(
            UnreadableTextError, match=r"app.log (cannot be decompressed|ends early)"
        ):
            text.length()

    def test_zstandard_needs_a_decompressor(self, tmp_path, monkeypatch):
        """Python before 3.14 has none: where the package is missing, the message says what to install."""
        for module in ("compression.zstd", "backports.zstd"):
            monkeypatch.setitem(sys.modules, module, None)

        with pytest.raises(
            UnreadableTextError, match=r"Zstandard, which needs Python 3\.14 or the package"
        ):
            texts(tmp_path, zstd.compress(b"one"))

    def test_a_zstandard_window_that_requests_much_memory(self, tmp_path):
        """A frame whose window is larger than 128 MiB is refused before any memory is used for it."""
        magic, last_block = b"\x28\xb5\x2f\xfd", b"\x19\x00\x00one"
        small, large = (magic + bytes([0, (log - 10) << 3]) + last_block for log in (20, 31))

        assert texts(tmp_path, small).read(0, 99) == "one"
        with pytest.raises(UnreadableTextError, match="Frame requires too much memory"):
            texts(tmp_path, large)

    def test_a_header_that_requests_much_memory(self, tmp_path):
        """The memory of xz is bounded, whatever the header says."""
        filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 512 * 1024 * 1024}]
        # The compressor would need several times the dictionary: only the header's byte is changed.
        data = bytearray(
            lzma.compress(
                b"a" * 100, filters=[{**filters[0], "dict_size": 4096}], check=lzma.CHECK_NONE
            )
        )
        assert data[16] == 0
        data[16] = 36  # a dictionary of 1 GiB
        with pytest.raises(UnreadableTextError, match="cannot be decompressed"):
            texts(tmp_path, bytes(data))

    def test_text_that_expands_too_much(self):
        """The bound on a text's size on disk holds for compressed text, as it is written."""
        bomb = gzip.compress(b"a" * 10_000_000)
        make = decompressor("gzip")
        pieces = decompressed(lambda at, size: bomb[at : at + size], make, "bomb")
        spooled = SpooledBytes((piece.decode() for piece in pieces), "bomb", 5_000_000)

        with pytest.raises(UnreadableTextError, match="bomb has more than 5,000,000 bytes"):
            spooled.extend(10_000_000, Deadline())
        assert spooled.size <= 5_000_000
        assert lazy_text.MOST_EXPANDED_BYTES < lazy_text.MOST_SPOOLED_BYTES
        assert directory.MAX_CONVERTED_BYTES < lazy_text.MOST_EXPANDED_BYTES

    def test_the_files_of_a_folder_share_an_allowance(self):
        """Many texts that are in use at once take no more together; one that is dropped gives its part back."""
        allowance = DiskAllowance(10)
        first = SpooledBytes(iter(["aaaaaaaa"]), "first", 100, allowance)
        second = SpooledBytes(iter(["bbbb"]), "second", 100, allowance)
        third = SpooledBytes(iter(["cccc"]), "third", 100, allowance)
        first.extend(8, Deadline())

        with pytest.raises(UnreadableTextError, match="second takes too much of the disk"):
            second.extend(4, Deadline())
        del first
        third.extend(4, Deadline())


class TestDirectories:
    def test_a_search_reads_compressed_files_and_names_what_it_passes_over(self, tmp_path, lent):
        """A search without a match says which files it could not search, so that none is not taken for no."""
        (tmp_path / "app.log").write_bytes(b"start\n" + bytes(64) + b"ERROR by eve\n")
        (tmp_path / "app.log.1.gz").write_bytes(gzip.compress(b"ERROR by bob\n"))
        (tmp_path / "app.log.2.gz").write_bytes(
            gzip.compress(os.urandom(NOISE_BYTES).hex().encode())[:-9]
        )
        (tmp_path / "app.log.3.zst").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(9))
        (tmp_path / "logo.png").write_bytes(b"\x89PNG\0\1\2")
        (tmp_path / "u16.log").write_bytes("ERROR by ann\n".encode("utf-16-le") * 2)
        session = lent()
        session.assign("d", Directory(tmp_path))

        output = session.run_cell(
            "hits = d.grep('ERROR by'); print(hits)\nlist(hits.passed_over)"
        ).output

        *lines, note, names = output.splitlines()
        assert lines[0].endswith("ERROR by eve")
        assert [line.rpartition(" ")[2] for line in lines] == ["eve", "bob", "ann", "ann"]
        assert note.startswith(
            "[not searched: app.log.2.gz: app.log.2.gz ends early: its compressed data"
        )
        assert "logo.png: a PNG image]" in note
        assert names == "['app.log.2.gz', 'app.log.3.zst', 'logo.png']"

    def test_many_files_passed_over_are_counted(self, tmp_path, lent):
        """The result names ten of them."""
        for n in range(15):
            (tmp_path / f"{n:02}.bin").write_bytes(b"\0\1")
        session = lent()
        session.assign("d", Directory(tmp_path))

        output = session.run_cell("print(d.grep('x'))").output

        assert output.startswith("[]\n[not searched: 00.bin: binary data, ")
        assert output.endswith("09.bin: binary data, and 5 more files]\n")

    def test_a_binary_file_can_be_read_and_says_what_it_is(self, tmp_path, lent):
        """A cell that opens one by its path sees its kind, and may read it."""
        (tmp_path / "logo.png").write_bytes(b"\x89PNG\0\1\2")
        session = lent()
        session.assign("d", Directory(tmp_path))

        assert "7 bytes; a PNG image" in session.run_cell("d['logo.png']").output
