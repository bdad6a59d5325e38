"""Loading files as inputs: their selection, their decoding, and the report on skipped files."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import sys
from pathlib import Path

import pytest

from dspy_rlm.cli.files import load_python
from dspy_rlm.errors import InputError
from dspy_rlm.inputs.sizes import size_text
from dspy_rlm.sources import load, load_texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with texts, hidden files, a repository and a binary."""
    for path, data in {
        "README.md": b"# Read me\n",
        "src/a.py": b"a = 1\n",
        "src/deep/b.txt": "größer\n".encode(),
        ".env": b"KEY=secret\n",
        ".git/config": b"[core]\n",
        "CVS/Root": b"root\n",
        "src/logo.png": b"\x89PNG\0\0\0",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return tmp_path


class TestLoadTexts:
    def test_a_folder_gives_its_texts_by_relative_path(self, folder):
        """Paths are relative to the folder, with slashes, in order."""
        assert dict(load_texts([folder]).by_path) == {
            "README.md": "# Read me\n",
            "src/a.py": "a = 1\n",
            "src/deep/b.txt": "größer\n",
        }

    def test_what_was_left_out_is_counted(self, folder):
        """Hidden files, version control and binaries are skipped, with their number and size."""
        texts = load_texts([folder])

        assert sorted((item.path, item.reason) for item in texts.skipped) == [
            (".env", "hidden"),
            (".git", "hidden"),
            ("CVS", "hidden"),
            ("src/logo.png", "binary"),
        ]
        assert texts.skipped_summary == "3 hidden (11 bytes), 1 binary (7 bytes)"
        assert texts.size_bytes == len("# Read me\na = 1\ngrößer\n".encode())

    def test_several_arguments_keep_what_tells_them_apart(self, folder):
        """Paths are relative to the common parent folder of all arguments."""
        texts = load_texts([folder / "src", folder / "README.md"])

        assert list(texts.by_path) == ["README.md", "src/a.py", "src/deep/b.txt"]
        assert list(load_texts([folder / "src/a.py"]).by_path) == ["a.py"]

    def test_a_file_in_a_named_folder_counts_once(self, folder):
        """Naming a file twice does not load it twice."""
        texts = load_texts([folder / "src", folder / "src" / "a.py", folder / "src" / "a.py"])

        assert texts.size_bytes == len("a = 1\ngrößer\n".encode())

    def test_a_hidden_file_is_read_when_it_is_named(self, folder):
        """Hidden files are skipped only inside of folders."""
        assert ".env" in load_texts([folder, folder / ".env"]).by_path

    def test_the_public_function(self, folder):
        """`dspy_rlm.sources.load_texts` accepts paths as text too."""
        assert load_texts([str(folder / "src")]).by_path["a.py"] == "a = 1\n"

    def test_relative_arguments_work(self, folder, monkeypatch):
        """`.` is the current folder."""
        monkeypatch.chdir(folder / "src")

        assert list(load_texts([Path()]).by_path) == ["a.py", "deep/b.txt"]
        assert list(load_texts([Path("a.py")]).by_path) == ["a.py"]

    @pytest.mark.parametrize(
        ("paths", "message"),
        [
            (["nothing"], "no such file or folder"),
            (["src/logo.png"], "logo.png is a PNG image, not a text"),
            (["CVS"], ""),
            ([".git/hooks"], r"There is no text in .*hooks\.$"),
            (["images"], r"no text in .*images\. Skipped: 1 binary \(1 bytes\)"),
        ],
    )
    def test_nothing_to_read_is_an_error(self, folder, paths, message):
        """A named file must be readable, and a folder must have a text."""
        (folder / ".git/hooks").mkdir()
        (folder / "images").mkdir()
        (folder / "images/a").write_bytes(b"\0")
        arguments = [folder / path for path in paths]
        if not message:
            assert load_texts(arguments).by_path  # a folder that is named is not hidden
            return

        with pytest.raises(InputError, match=message):
            load_texts(arguments)

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
    def test_a_pipe_in_a_folder_is_not_waited_for(self, folder):
        """Only regular files are read: a pipe would block."""
        os.mkfifo(folder / "pipe")

        assert "pipe" not in load_texts([folder]).by_path

    @pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
    def test_a_dead_link_is_ignored(self, folder):
        """A dangling link is ignored."""
        (folder / "link").symlink_to("nowhere")

        assert "link" not in load_texts([folder]).by_path


class TestDecode:
    @pytest.fixture
    def decode(self, tmp_path):
        """Reads bytes as a file without a suffix."""

        def decode(data: bytes) -> str:
            (tmp_path / "file").write_bytes(data)
            return load(tmp_path / "file")

        return decode

    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (b"", ""),
            ("größer".encode(), "größer"),
            ("größer".encode("utf-8-sig"), "größer"),
            ("größer".encode("utf-16"), "größer"),
            ("größer".encode("utf-32"), "größer"),
            ("größer".encode("latin-1"), "größer"),
            (b"one\r\ntwo\rthree\n", "one\ntwo\nthree\n"),
            (b"\x1b[1mbold\x1b[0m \xfc", "\x1b[1mbold\x1b[0m ü"),
        ],
    )
    def test_texts(self, decode, data, text):
        """Text is decoded as UTF-8, then by its byte order mark, then as Windows-1252, with Python's line ends."""
        assert decode(data) == text

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (bytes(range(1, 256)), "binary data"),
            (b"\0\1", "binary data"),
            (b"PK\x03\x04\0\0\x01", "as a ZIP archive"),
            (b"%PDF-1.7\n", "as a PDF document"),
            (gzip.compress(b"\0\1", mtime=0), "binary data, compressed with gzip"),
            (gzip.compress(b"text" * 1000, mtime=0)[:-9], "incomplete"),
            (b"\x1f\x8b\x08 no gzip", "cannot be decompressed"),
            (b"\xff\xfe\x00", "byte order mark of UTF-16"),
            (b"\xef\xbb\xbf\xff", "byte order mark of UTF-8"),
        ],
    )
    def test_what_is_no_text(self, decode, data, reason):
        """Many control characters, a wrong byte order mark or damaged compression is an error that says so."""
        with pytest.raises(InputError, match=reason):
            decode(data)

    @pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
    def test_compressed_texts(self, decode, compress):
        """They are decompressed first, whatever the name of the file."""
        assert decode(compress("größer\r\n".encode("utf-16"))) == "größer\n"

    def test_nul_bytes_in_a_log(self, decode):
        """A rotation that truncates a log below its writer leaves a block of them."""
        assert decode(b"start\n" + bytes(64) + b"ERROR\n") == "start\n" + "\0" * 64 + "ERROR\n"


class TestLoadPython:
    def test_each_file_is_decoded_as_it_declares(self, tmp_path):
        """A Python file declares its encoding in its first lines; undecodable files are counted."""
        (tmp_path / "a.py").write_bytes("# coding: latin-1\ns = 'ü'\n".encode("latin-1"))
        (tmp_path / "b.py").write_bytes("s = 'ü'\r\n".encode("utf-8-sig"))
        (tmp_path / "bad.py").write_bytes(b"s = '\xfc'\n")
        (tmp_path / "worse.py").write_bytes(b"# coding: no-such\n")
        texts = load_python(tmp_path)

        assert dict(texts.by_path) == {
            "a.py": "# coding: latin-1\ns = 'ü'\n",
            "b.py": "s = 'ü'\n",
        }
        assert texts.skipped_summary == "2 undecodable (26 bytes)"

    def test_installed_packages_are_left_out(self, tmp_path):
        """site-packages is in the standard library's folder, but not part of it."""
        for path in ("os.py", "site-packages/x.py", "dist-packages/y.py", "data.txt"):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text("")

        assert list(load_python(tmp_path).by_path) == ["os.py"]

    def test_no_python_is_an_error(self, tmp_path):
        """A library that is only compiled or zipped, as in some distributions, is an error."""
        with pytest.raises(InputError, match="no Python source in"):
            load_python(tmp_path)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_960, "1.0 MB"),
        (31_525_156, "31.5 MB"),
        (5_000_000_000_000, "5,000.0 GB"),
    ],
)
def test_sizes_read_well(size, text):
    """A size has one digit after the point and the unit that fits."""
    assert size_text(size) == text
