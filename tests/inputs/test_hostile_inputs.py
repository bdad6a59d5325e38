"""Hostile files as inputs: each is refused in bounded time and memory, with an error of the input, or read without harm."""

from __future__ import annotations

import gc
import gzip
import importlib.util
import io
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import input_files as files
import pytest

import dspy_rlm
from dspy_rlm.errors import InputError
from dspy_rlm.inputs.content import Content, whole
from dspy_rlm.inputs.gathering import gather
from dspy_rlm.inputs.items import Item
from dspy_rlm.inputs.spool import Spool
from dspy_rlm.sources import InputBounds, load, load_texts
from sandbox_runtime import Directory, TextFile, WallMissingError
from sandbox_runtime.helpers import ProcessBounds, run_python
from sandbox_runtime.isolation import bounded_python
from sandbox_runtime.isolation.os_isolation import NO_WALL, Wall, detect

NEEDED = ("bs4", "duckdb", "mammoth", "markdownify", "pptx", "pypdfium2", "python_calamine")
documents = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, NEEDED)), reason='needs the extra "files"'
)
linux = pytest.mark.skipif(not detect().complete, reason="this machine cannot confine a process")
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")

MB = 1024**2
WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
NAMES = ["lol", *(f"&l{n};" for n in range(9))]
ENTITIES = "".join(f'<!ENTITY l{n} "{name * 10}">' for n, name in enumerate(NAMES))
BILLION_LAUGHS = f"<!DOCTYPE d [{ENTITIES}]><w:document {WORD}><w:body><w:p><w:r><w:t>&l9;</w:t></w:r></w:p></w:body></w:document>"
OUTSIDE = (
    f'<!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><w:document {WORD}><w:body><w:p><w:r><w:t>&x;</w:t></w:r>'
    "</w:p></w:body></w:document>"
)
DEEP = f"<w:document {WORD}><w:body>{'<w:p>' * 20_000}"
FAR_CELL = '<sheetData><row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>2</v></c></row></sheetData>'
CIRCULAR_PAGES = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[2 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Length 3 0 R>>stream\nendstream endobj\ntrailer<</Root 1 0 R/Size 4>>\n%%EOF"
)


@pytest.fixture
def write(tmp_path):
    """Writes a file and returns its path."""

    def write(name: str, content: str | bytes) -> Path:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / name

    return write


class TestDocuments:
    @documents
    @pytest.mark.sampled(7)
    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("a.docx", lambda: files.docx(BILLION_LAUGHS), "defines entities"),
            pytest.param(
                "a.docx",
                lambda: files.docx(" " * 5000 + BILLION_LAUGHS),
                "amplification|entities|memory|s, or",
                marks=pytest.mark.nightly,
            ),
            ("a.docx", lambda: files.docx(OUTSIDE), "defines entities"),
            ("a.docx", lambda: files.docx(DEEP), "nested too deeply|damaged"),
            ("a.docx", lambda: files.docx()[:-100], "damaged"),
            ("a.xlsx", lambda: files.xlsx(FAR_CELL), "too much memory"),
            ("a.pdf", lambda: CIRCULAR_PAGES, "no text|damaged"),
            ("a.pdf", lambda: files.pdf(["x"])[:60], "damaged, or incomplete"),
            ("a.html", lambda: "<div>" * 20_000, "nested too deeply"),
            (
                "a.duckdb",
                lambda: bytes(8) + b"DUCK" + bytes([64]) + bytes(5000),
                "as a DuckDB database",
            ),
            ("a.parquet", lambda: b"PAR1" + b"x" * 100 + b"PAR1", "as a Parquet file"),
        ],
        ids=[
            *(
                "billion laughs",
                "later entities",
                "outside entity",
                "deep",
                "cut",
                "far cell",
                "circular",
            ),
            *("cut pdf", "deep html", "duckdb", "parquet"),
        ],
    )
    def test_it_is_an_error_of_the_input(self, write, name, content, reason):
        """The file is refused with its name and the reason, and the host goes on."""
        with pytest.raises(InputError, match=rf"Cannot read .*{name}.*({reason})"):
            load(write(name, content()), bounds=InputBounds(seconds=30))

    @documents
    def test_a_huge_dimension_alone_is_harmless(self, write):
        """The size that a sheet claims allocates nothing."""
        claim = '<dimension ref="A1:XFD1048576"/>'

        assert load(write("a.xlsx", files.xlsx(claim + files.ROWS))).endswith(",3\n")

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("a.ipynb", '{"cells":' + "[" * 100_000, "nested too deeply"),
            ("a.ipynb", "[]", "not an object"),
            ("a.jsonl", "[" * 100_000, "line 1 is not JSON"),
            ("a.jsonl", "9" * 5000, "line 1 is not JSON"),
            ("a.db", b"SQLite format 3\0" + b"x" * 5000, "as an SQLite database"),
            ("a.eml", bytes(100), "binary data"),
            ("a.csv", b"\x89PNG\0\0", "a PNG image"),
            (
                "a.tar",
                bytes(257) + b"ustar\0" + bytes(249) + b"x" * 100,
                "There is no text|as a tar archive",
            ),
            ("a.zip", b"PK\x03\x04" + b"x" * 100, "as a ZIP archive"),
            ("a.gz", gzip.compress(b"x" * 1000, mtime=0)[:-10], "incomplete"),
        ],
        ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
    )
    def test_damaged_files(self, write, name, content, reason):
        """So is a damaged one of the formats that need no extra."""
        gc.collect()  # the finalizers of other tests would fail at the depth of some
        with pytest.raises(InputError, match=reason):
            load(write(name, content))

    def test_a_view_that_never_ends(self, tmp_path):
        """A view of a database may compute for ever: it is cut, and the tables are read."""
        connection = sqlite3.connect(tmp_path / "a.db")
        connection.executescript(
            "create table t(a); insert into t values(1); create view v as with recursive c(x) as "
            "(select 1 union all select x + 1 from c) select count(*) from c"
        )
        connection.close()

        assert load(tmp_path / "a.db") == {"t": [{"a": 1}]}


class TestBombs:
    @documents
    def test_a_document_is_refused_by_what_it_claims(self, write):
        """The claimed sizes of its parts are added up before one is read."""
        bomb = files.zipped({"word/document.xml": bytes(3 * MB)})
        with pytest.raises(
            InputError, match="it expands to 3,145,728 bytes; at most 2,097,152 are read"
        ):
            load(write("a.docx", bomb), bounds=InputBounds(output_bytes=2 * MB))

    def test_a_zip_bomb_is_refused_by_what_it_claims(self, write):
        """The claimed sizes are added up before anything is expanded."""
        bomb = files.zipped({f"{n}.txt": b"a" * MB for n in range(3)})
        with pytest.raises(
            InputError, match=r"it expands to 3,145,728 bytes; at most 2,097,152 are read"
        ):
            load(write("a.zip", bomb), bounds=InputBounds(output_bytes=2 * MB))

    def test_what_it_does_not_claim_is_bounded_too(self, write):
        """The system ends a process that writes more than allowed."""
        tar = files.tarred({"a.txt": b"a" * (3 * MB)})
        with pytest.raises(InputError, match=r"expands to more than 2\.1 MB"):
            load(write("a.tar", tar), bounds=InputBounds(output_bytes=2 * MB))
        with pytest.raises(InputError, match=r"more than 2\.1 MB when it is expanded"):
            load(write("a.tar.gz", gzip.compress(tar)), bounds=InputBounds(output_bytes=2 * MB))

    def test_a_compressed_text_is_expanded_only_as_far_as_it_is_read(self, write):
        """A long text in a little gzip is a lazy text."""
        text = load(write("a.gz", gzip.compress(b"a" * 30 * MB)), bounds=InputBounds(lazy_bytes=MB))

        assert isinstance(text, TextFile)
        assert text.read(0, 3) == "aaa"
        assert text.source.size < 5 * MB


@posix
class TestSpecialFiles:
    def test_devices_and_sockets(self, tmp_path):
        """They are no files, and reading one may have effects or never end."""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
            for path in ("/dev/zero", tmp_path / "s"):
                with pytest.raises(InputError, match="a device or a socket"):
                    load(path)

    def test_a_pipe_to_which_nothing_writes(self, tmp_path):
        """A named pipe is not waited for longer than the bound."""
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(InputError, match=r"nothing arrived within 0\.1 s"):
            load(tmp_path / "pipe", bounds=InputBounds(pipe_seconds=0.1))

    def test_a_pipe_is_read_to_its_end(self, tmp_path):
        """All data that a program writes into a pipe is read, and its kind is recognized."""
        os.mkfifo(tmp_path / "pipe")

        def write() -> None:
            (tmp_path / "pipe").write_bytes(gzip.compress(b"hello"))

        writer = threading.Thread(target=write)
        writer.start()
        assert load(tmp_path / "pipe") == "hello"
        writer.join()

    def test_links_in_a_folder_are_not_followed(self, tmp_path):
        """Links may lead outside, and form circles: they are left out and counted; a named link is followed."""
        (tmp_path / "a.txt").write_text("a")
        (tmp_path / "circle").symlink_to(tmp_path)
        (tmp_path / "loop").symlink_to("loop")
        (tmp_path / "out").symlink_to("/etc/passwd")
        (tmp_path / "again").symlink_to("a.txt")

        texts = load_texts([tmp_path])
        assert list(texts.by_path) == ["a.txt"]
        assert texts.skipped_summary == "4 link"
        assert load(tmp_path / "again") == "a"
        with pytest.raises(InputError, match="no such file"):
            load(tmp_path / "loop")


class TestChanges:
    @staticmethod
    def read_while(path: Path, change: Callable[[], object]) -> str:
        """Reads a file that changes after its opening."""

        class Changing(io.FileIO):
            def read(self, size: int = -1) -> bytes:
                change()
                return super().read(size)

        notes: list[str] = []
        with Changing(path) as file:
            return f"{whole(file, path.name, notes).decode()}|{'; '.join(notes)}"

    def test_a_log_that_grows(self, write):
        """Its text is that of the moment it was opened, and that is said."""
        path = write("a.log", "one\n")

        def grow() -> None:
            with path.open("a") as file:
                file.write("two\n")

        assert (
            self.read_while(path, grow)
            == "one\n|it grew while it was read; its first 4 bytes are used"
        )

    def test_a_file_that_is_cut_or_rewritten(self, write):
        """Half of an old text and half of a new one are no input."""
        path = write("a.txt", "one\n")
        with pytest.raises(InputError, match="it was cut while it was read"):
            self.read_while(path, lambda: os.truncate(path, 1))
        path.write_text("one\n")

        def rewrite(path: Path) -> None:
            path.write_text("two\n")
            os.utime(path, ns=(1, 1))

        with pytest.raises(InputError, match="it changed while it was read"):
            self.read_while(path, lambda: rewrite(path))


SECRET = "the launch code"


def database(text: str) -> bytes:
    """A database with one row."""
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (x)")
    connection.execute("insert into t values (?)", [text])
    return connection.serialize()


def notebook(text: str) -> bytes:
    """A notebook with one cell."""
    cell = {"cell_type": "markdown", "metadata": {}, "source": [text]}
    return json.dumps(
        {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    ).encode()


@posix
class TestReplacedByALink:
    """A file of a folder is the one that was listed: the owner of the folder cannot lead a reader elsewhere afterwards."""

    KINDS: ClassVar[dict[str, tuple[str, Callable[[str], bytes], InputBounds]]] = {
        "text": ("a.txt", str.encode, InputBounds()),
        "large text": ("a.txt", str.encode, InputBounds(lazy_bytes=0)),
        "compressed": ("a.txt.gz", lambda text: gzip.compress(text.encode()), InputBounds()),
        "compressed twice over": (
            "a.db.gz",
            lambda text: gzip.compress(database(text)),
            InputBounds(),
        ),
        "notebook": ("a.ipynb", notebook, InputBounds()),
        "database": ("a.db", database, InputBounds()),
    }

    @pytest.mark.parametrize("replaced", ["file", "folder", "link to a link", "pipe"])
    @pytest.mark.parametrize("kind", KINDS)
    def test_after_it_was_listed(self, tmp_path, kind, replaced):
        """It is left out with the reason, and nothing of the other file is read."""
        name, content, bounds = self.KINDS[kind]
        root, elsewhere = tmp_path / "repository" / "docs", tmp_path / "home"
        for folder, text in ((root, "harmless"), (elsewhere, SECRET)):
            folder.mkdir(parents=True)
            (folder / name).write_bytes(content(text))
        (root / "other.txt").write_text("other")
        [source] = gather([root.parent], bounds)
        if replaced == "folder":
            root.rename(tmp_path / "moved")
            root.symlink_to(elsewhere)
        else:
            (root / name).unlink()
            match replaced:
                case "file":
                    (root / name).symlink_to(elsewhere / name)
                case "pipe":
                    os.mkfifo(root / name)
                case _:
                    (root / "link").symlink_to(elsewhere / name)
                    (root / name).symlink_to("link")
        texts = source.texts()

        shown = {
            path: text if isinstance(text, str) else text.read(0, 100)
            for path, text in texts.items()
        }
        assert SECRET not in "".join(shown.values())
        assert shown.get("docs/other.txt") == (None if replaced == "folder" else "other")
        if kind != "compressed twice over":  # it was expanded when it was found
            assert f"docs/{name}" in {one.path for one in source.skipped}

    def test_between_the_listing_and_its_examination(self, tmp_path):
        """Not even its size or its kind is that of the other file."""
        (tmp_path / "given").mkdir()
        (tmp_path / "given" / "a.txt").symlink_to(tmp_path / "secret")
        (tmp_path / "secret").write_text(SECRET)
        folder = Directory(tmp_path / "given")
        content = Content("a.txt", folder.root / "a.txt", Spool(), folder=folder, below="a.txt")

        with pytest.raises(InputError, match=r"Cannot read a\.txt: .*symbolic link"):
            Item(content, InputBounds())

    def test_a_file_that_was_named_may_be_a_link(self, tmp_path):
        """The user has chosen it."""
        (tmp_path / "a.txt").write_text("mine")
        (tmp_path / "link.txt").symlink_to("a.txt")

        assert load(tmp_path / "link.txt") == "mine"


class TestProcess:
    """The process of a converter is bounded, whatever its program does."""

    def run(self, tmp_path, program: str, *, require_wall=False, **bounds):
        """Runs a program and returns its end and its output."""
        (tmp_path / "program.py").write_text(f"def main(arguments):\n    {program}\n")
        with (tmp_path / "output").open("w+b") as output:
            ended = run_python(
                "program",
                ["a"],
                output,
                modules=[tmp_path / "program.py"],
                bounds=ProcessBounds(**bounds),
                require_wall=require_wall,
            )
            output.seek(0)
            return ended, output.read()

    @pytest.mark.parametrize(
        ("program", "bounds", "problem"),
        [
            ("import time; time.sleep(60)", {"seconds": 0.5}, "took longer than 0.5 s"),
            ("bytes(10**9)", {"memory_bytes": 2 * 10**8}, "failed"),
            (
                "print('x' * 10**6, flush=True)",
                {"output_bytes": 10**5},
                "resulted in more than 100,000",
            ),
            ("import os; os.abort()", {}, "crashed"),
            ("raise SystemExit(3)", {}, "failed"),
        ],
    )
    @posix
    def test_its_end_is_reported(self, tmp_path, program, bounds, problem):
        """A hang, an excess and a crash are facts about the process, not about the host."""
        ended, _ = self.run(tmp_path, program, **bounds)

        assert ended.problem.startswith(problem) or (
            problem.startswith("resulted") and "File too large" in ended.message
        )

    @posix
    def test_it_ends_with_the_host(self, tmp_path):
        """Should the host be killed, its converters do not go on."""
        program = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
        (tmp_path / "program.py").write_text(f"def main(arguments):\n    {program}\n")
        host = (
            "import sys, pathlib; sys.path[:] = sys.argv[3].split(';')\n"
            "from sandbox_runtime.helpers import run_python\n"
            "with open(sys.argv[2], 'w+b') as out: run_python('program', [], out, modules=[pathlib.Path(sys.argv[1], 'program.py')])"
        )
        output = tmp_path / "output"
        command = [sys.executable, "-c", host, str(tmp_path), str(output), ";".join(sys.path)]
        with subprocess.Popen(command) as running:
            while not (output.exists() and output.read_bytes().endswith(b"\n")):
                time.sleep(0.02)
            running.kill()
        child = int(output.read_text())
        for _ in range(3_000):
            try:
                os.kill(child, 0)
            except ProcessLookupError:
                return
            if (
                Path(f"/proc/{child}/stat").exists()
                and ") Z " in Path(f"/proc/{child}/stat").read_text()
            ):
                return  # nobody reaps it in this container
            time.sleep(0.02)
        raise AssertionError("it goes on")

    @linux
    def test_it_reaches_nothing(self, tmp_path, monkeypatch):
        """It reads no other file, writes none, starts no process and opens no connection."""
        application = tmp_path / "application"
        application.mkdir()
        (application / ".env").write_text("KEY=x")
        (tmp_path / ".env").write_text("KEY=x")
        (application / "settings.py").write_text("KEY = 'x'")
        monkeypatch.setattr(sys, "path", [str(application), *sys.path])
        secret = tmp_path.parent / f"{tmp_path.name}-secret"
        secret.write_text("x")
        project = Path(dspy_rlm.__file__).parents[1]
        files = [
            secret,
            application / ".env",
            tmp_path / ".env",  # beside a module that it may import
            application / "settings.py",
            *((project / name) for name in ("pyproject.toml", "README.md")),
            *of_the_prefix(),
            *(path for path in (project / "tests", Path.cwd() / "benchmarks") if path.is_dir()),
        ]
        attempts = [
            *(f"open({str(path)!r}).read()" for path in files if path.is_file()),
            *(f"__import__('os').listdir({str(path)!r})" for path in (application, tmp_path, "/")),
            *(f"__import__('os').listdir({str(path)!r})" for path in files if path.is_dir()),
            f"open({str(tmp_path / 'new')!r}, 'w')",
            "__import__('os').fork()",
            "__import__('socket').create_connection(('127.0.0.1', 9))",
            "open('/proc/self/environ').read()",
        ]
        program = "\n    ".join(
            f"try: {attempt}; print({attempt!r})\n    except OSError as e: print(type(e).__name__)"
            for attempt in attempts
        )
        ended, output = self.run(tmp_path, program, require_wall=True)

        assert ended.problem == "", ended.message
        assert output.decode().splitlines() == ["PermissionError"] * len(attempts)

    @linux
    def test_it_imports_what_is_installed(self, tmp_path, monkeypatch):
        """In a folder that holds other things, too, and nothing of the application."""
        target = tmp_path / "target"
        (target / "package").mkdir(parents=True)
        (target / "package-1.0.dist-info").mkdir()
        (target / "package-1.0.dist-info" / "RECORD").write_text(
            "package/__init__.py,,\npackage/part.py,,\nsingle.py,,\n../../bin/package,,\n"
        )
        for name in ("package/__init__.py", "package/part.py", "single.py", "settings.py"):
            (target / name).write_text("")
        (target / ".env").write_text("KEY=x")
        monkeypatch.setattr(sys, "path", [str(target), *sys.path])
        program = (
            "import package.part, single, pytest\n"
            "    try: import settings; print('settings')\n"
            "    except ImportError: pass\n"
            f"    try: print(open({str(target / '.env')!r}).read())\n"
            "    except PermissionError: print('refused')"
        )
        ended, output = self.run(tmp_path, program, require_wall=True)

        assert ended.problem == "", ended.message
        assert output == b"refused\n"

    @posix
    @pytest.mark.parametrize("parts", [[NO_WALL], [Wall(landlock=1), NO_WALL]], ids=str)
    def test_where_it_cannot_be_confined(self, tmp_path, monkeypatch, caplog, parts):
        """It runs with what there is, which is logged, or not at all where the wall is required."""
        if not detect().landlock and parts[0]:
            pytest.skip("this system has no Landlock")
        monkeypatch.setattr(bounded_python, "_walls", lambda: parts)
        bounded_python._log_missing.cache_clear()

        with pytest.raises(WallMissingError, match="require_wall asks for the whole wall"):
            self.run(tmp_path, "print('ran')", require_wall=True)
        assert (tmp_path / "output").read_bytes() == b""
        assert not caplog.messages
        assert self.run(tmp_path, "print('ran')")[1] == b"ran\n"
        assert [str(parts[0]) in message for message in caplog.messages] == [True]
        (tmp_path / "a.db").write_bytes(database("x"))
        with pytest.raises(InputError, match=r"Cannot read .*a\.db: .*require_wall"):
            load(tmp_path / "a.db", bounds=InputBounds(require_wall=True))

    @documents
    @linux
    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("a.pdf", lambda: files.pdf(["hello"])),
            ("a.docx", files.docx),
            ("a.xlsx", lambda: files.xlsx(files.ROWS)),
            ("a.pptx", files.pptx),
            ("a.db", lambda: database("hello")),
        ],
    )
    def test_behind_the_whole_wall(self, write, name, content):
        """Documents and tables are read."""
        assert load(write(name, content()), bounds=InputBounds(require_wall=True))


def of_the_prefix() -> list[Path]:
    """Returns a file of the folders in which Python and its environment are installed, one of each."""
    return [
        next(path for path in sorted(Path(prefix, "bin").iterdir()) if "python" not in path.name)
        for prefix in dict.fromkeys((sys.prefix, sys.base_prefix))
    ]
