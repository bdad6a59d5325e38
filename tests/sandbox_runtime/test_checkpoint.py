"""Saved states: their content, their restoration, and damaged files. Real sandboxes."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import struct
import threading
import warnings
import zipfile

import pytest
from session_cells import when

from sandbox_runtime import (
    Checkpoint,
    CheckpointError,
    Completed,
    HandleType,
    Limits,
    open_session,
)
from sandbox_runtime.limits import MEBIBYTE
from sandbox_runtime.sessions.replay import ReplayLog
from tests.measuring import Cost


class Photo:
    """A class whose instances stay on the host."""


class Token:
    """Another class whose instances stay on the host."""


@dataclasses.dataclass
class Point:
    """A dataclass that crosses as a record."""

    x: int


def run(session, code):
    """Runs a cell and returns its output."""
    result = session.run_cell(code)
    assert isinstance(result, Completed), result
    return result.output


# A cell, a later cell that shows its effect, and the expected output. The names differ, since one session
# runs all of them.
KEPT_IN_MEMORY = {
    "values": ("x = {'a': [1, 2]}; y = x['a']", "y.append(3); x", "{'a': [1, 2, 3]}\n"),
    "generators": (
        "def count():\n    yield from range(9)\nc = count(); next(c)",
        "next(c), next(c)",
        "(1, 2)\n",
    ),
    "closures": ("def add(n): return lambda x: x + n\nadd_three = add(3)", "add_three(4)", "7\n"),
    "classes": (
        "class A:\n    v = 1\na = A(); a.v = 2",
        "a.v, A.v, isinstance(a, A)",
        "(2, 1, True)\n",
    ),
    "modules": (
        "import collections, math",
        "math.pi > 3, collections.deque([1])",
        "(True, deque([1]))\n",
    ),
    "the event loop": (
        "import asyncio; await asyncio.sleep(0.001)",
        "await asyncio.sleep(0, 5)",
        "5\n",
    ),
    "functions of C": (
        "import ctypes; size = ctypes.pythonapi.PyList_Size; size.argtypes = [ctypes.py_object]",
        "size([1, 2, 3])",
        "3\n",
    ),
    "text": ("text = 'é🙂' * 10**6", "len(text), text[-1]", "(2000000, '🙂')\n"),
    "exceptions": (
        "try:\n    1 / 0\nexcept Exception as e: kept = e",
        "type(kept).__name__",
        "'ZeroDivisionError'\n",
    ),
}

KEPT_ON_DISK = {
    "text": (
        "open('/tmp/a.txt', 'w').write('é\\n' * 3)",
        "open('/tmp/a.txt').read()",
        "'é\\né\\né\\n'\n",
    ),
    "bytes": (
        "open('/tmp/b', 'wb').write(bytes(300_000))",
        "len(open('/tmp/b', 'rb').read())",
        "300000\n",
    ),
    "links": (
        "import os; open('/tmp/t', 'w').write('t'); os.symlink('/tmp/t', '/tmp/l')",
        "open('/tmp/l').read(), os.readlink('/tmp/l')",
        "('t', '/tmp/t')\n",
    ),
    "rights": (
        "import os; open('/tmp/p', 'w').close(); os.chmod('/tmp/p', 0o400)",
        "oct(os.stat('/tmp/p').st_mode)",
        "'0o100400'\n",
    ),
    "dates": (
        "import os; open('/tmp/d', 'w').close(); os.utime('/tmp/d', (5, 5))",
        "os.stat('/tmp/d').st_mtime",
        "5.0\n",
    ),
    "deletions": (
        "import os, shutil; os.chdir('/'); shutil.rmtree('/home')",
        "import os; os.path.exists('/home')",
        "False\n",
    ),
    "the working directory": (
        "import os; os.makedirs('/data/x/y'); os.chdir('/data/x')",
        "os.getcwd(), os.listdir()",
        "('/data/x', ['y'])\n",
    ),
}

KEPT_OPEN = {
    "flushed": (
        "flushed = open('/tmp/w', 'w'); flushed.write('one '); flushed.flush()",
        "flushed.write('two'); flushed.close(); open('/tmp/w').read()",
        "'one two'\n",
    ),
    "not yet written": (
        "written = open('/tmp/v', 'w'); written.write('one ')",
        "written.close(); open('/tmp/v').read()",
        "'one '\n",
    ),
    "read": (
        "open('/tmp/r', 'w').write('abc'); halfway = open('/tmp/r'); halfway.read(1)",
        "halfway.read()",
        "'bc'\n",
    ),
    "without a name": (
        "import tempfile; nameless = tempfile.TemporaryFile(); nameless.write(b'abc'); nameless.seek(1)",
        "nameless.read()",
        "b'bc'\n",
    ),
    "several": (
        "fs = [open(f'/tmp/{i}', 'w+') for i in range(9)]; fs[4].write('four'); del fs[1]",
        "fs[3].seek(0); fs[3].read()",
        "'four'\n",
    ),
}


@pytest.fixture(scope="module")
def continued():
    """A session restored from one in which all cells of the tables above have run."""
    with open_session() as session:
        for kept in (KEPT_IN_MEMORY, KEPT_ON_DISK, KEPT_OPEN):
            for first, _, _ in kept.values():
                run(session, first)
        state = session.checkpoint()
    with open_session(restore=state) as session:
        yield session


class TestMemory:
    """All Python objects are restored."""

    @pytest.mark.parametrize("name", KEPT_IN_MEMORY)
    def test_survives(self, continued, name):
        """Values, generators, closures, classes, modules, the event loop and exceptions are restored."""
        _, second, expected = KEPT_IN_MEMORY[name]

        assert run(continued, second) == expected

    def test_tools_and_outputs_are_those_of_the_new_session(self, opened):
        """Tools belong to the host; the state contains only their names."""
        with open_session(tools={"f": lambda: "old", "gone": int}) as session:
            run(session, "x = f()")
            state = session.checkpoint()

        session = opened(restore=state, tools={"f": lambda: "new"}, outputs={"answer": "int"})

        assert run(session, "x, f()") == "('old', 'new')\n"
        assert session.run_cell("SUBMIT(answer=1)").outputs == {"answer": 1}

    def test_random_numbers_are_new(self, opened, saved_state):
        """Two sessions of one state draw different random numbers."""
        state, _ = saved_state

        drawn = {run(opened(restore=state), "random.random()") for _ in range(2)}

        assert len(drawn) == 2

    def test_random_numbers_go_on_in_the_session_itself(self, opened):
        """A session's own sequence continues after a checkpoint or a recovery."""
        session = opened()
        drawn = run(session, "import random; random.seed(7); [random.random() for _ in range(3)]")

        run(session, "random.seed(7); again = [random.random()]")
        session.checkpoint()
        run(session, "again.append(random.random())")
        os.kill(session.pid, signal.SIGKILL)

        assert run(session, "again + [random.random()]") == drawn

    def test_the_session_goes_on(self, lent):
        """Taking a checkpoint does not change the session."""
        session = lent(tools={"echo": lambda x: x})
        run(session, "g = (i for i in range(9)); next(g)")

        for expected in (1, 2, 3):
            session.checkpoint()
            assert run(session, "echo(next(g))") == f"{expected}\n"

    def test_after_a_stopped_cell(self, opened):
        """A checkpoint works after an interrupted cell, also one that waited for the host."""
        began, release = threading.Event(), threading.Event()
        session = opened(tools={"hang": lambda: (began.set(), release.wait(60))})
        thread = when(began, session.interrupt)
        session.run_cell("x = 1\nawait hang.aio()")
        release.set()
        thread.join()

        state = session.checkpoint()

        assert run(opened(restore=state), "x") == "1\n"

    def test_a_process_that_is_killed_meanwhile(self, opened):
        """Another process is started, and its state saved."""
        session = opened()
        run(session, "x = 1")
        os.kill(session.pid, signal.SIGSTOP)  # so that it receives the request, but cannot answer
        threading.Timer(0.2, os.kill, (session.pid, signal.SIGKILL)).start()

        state = session.checkpoint()

        assert run(session, "x") == run(opened(restore=state), "x") == "1\n"


class TestByItself:
    """A session takes checkpoints when they are worth their cost."""

    def test_a_kill_meanwhile_is_not_the_end_of_it(self, opened):
        """If the process is killed during a checkpoint, the next process is saved later."""

        class Due(ReplayLog):
            def due(self, now):
                if not session.restarts:
                    os.kill(session.pid, signal.SIGKILL)
                return self.possible

        session = opened()
        session._line._process.log = Due()
        run(session, "x = 1")

        assert run(session, "x") == "1\n"
        assert session._line._process.log.checkpoint is not None


@pytest.fixture(scope="module")
def with_photo():
    """A photo, and a state with a handle of it."""
    photo = Photo()
    with open_session(types=[HandleType(Photo)]) as session:
        session.assign({"photo": photo, "point": Point(1)})
        return photo, session.checkpoint()


class TestHandles:
    """Handles of objects on the host stay valid within one process."""

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("types", [None, [HandleType(Photo), HandleType(Token)]])
    def test_they_mean_the_same_objects(self, opened, with_photo, types):
        """Handles refer to the same objects under the state's own rules, and under others."""
        photo, state = with_photo

        restored = opened(restore=state, types=types)

        assert restored.run_cell("SUBMIT([photo, point])").outputs == {"output": [photo, Point(1)]}

    def test_new_ones_are_others(self, opened, with_photo):
        """A handle's number is not reused, not even by a session with its own rules."""
        (photo, state), token = with_photo, Token()
        restored = opened(restore=state, types=[HandleType(Token)])

        restored.assign("token", token)

        assert restored.run_cell("SUBMIT([photo, token])").outputs == {"output": [photo, token]}

    def test_a_fork_has_the_rules_too(self, opened):
        """A fork has the type rules of its origin."""
        photo, later = Photo(), Photo()
        session = opened(types=[HandleType(Photo)])
        session.assign("photo", photo)

        with session.fork() as other:
            other.assign("later", later)

            assert other.run_cell("SUBMIT([photo, later])").outputs == {"output": [photo, later]}


class TestDisk:
    """The files of cells are saved; the interpreter's own files are not."""

    @pytest.mark.parametrize("name", KEPT_ON_DISK)
    def test_survives(self, continued, name):
        """Text, bytes, folders, links, modes, dates, deletions and the working directory are restored."""
        _, second, expected = KEPT_ON_DISK[name]

        assert run(continued, second) == expected

    @pytest.mark.parametrize("name", KEPT_OPEN)
    def test_open_files_are_open_again(self, continued, name):
        """Open files keep their position and unwritten data, also if they were deleted."""
        _, second, expected = KEPT_OPEN[name]

        assert run(continued, second).splitlines()[-1] + "\n" == expected

    def test_a_state_of_a_restored_session(self, opened, saved_state):
        """It contains the files of both sessions."""
        first, _ = saved_state
        with open_session(restore=first) as session:
            run(session, "open('/tmp/two', 'w').write('2')")
            second = session.checkpoint()

        text = run(opened(restore=second), "open('/tmp/f').read() + open('/tmp/two').read()")

        assert text == "'file2'\n"


class TestFork:
    """A second session from the same point."""

    def test_they_are_apart_from_there_on(self, opened):
        """Both sessions share their past, and are independent afterwards."""
        session = opened(tools={"echo": lambda x: x}, outputs={"answer": "int"})
        session.assign("rows", [1, 2])
        run(session, "x = 1")

        with session.fork() as other:
            run(other, "x = 2; rows.append(3)")
            run(session, "y = 3")

            assert run(session, "x, y, rows") == "(1, 3, [1, 2])\n"
            assert run(other, "echo(x), 'y' in globals(), rows") == "(2, False, [1, 2, 3])\n"
            assert other.run_cell("SUBMIT(answer=x)").outputs == {"answer": 2}

    @pytest.mark.nightly  # the parts have tests of their own
    def test_a_fork_heals_too(self, opened):
        """A fork recovers from the state that it started with."""
        session = opened()
        run(session, "x = 1")

        with session.fork() as other:
            run(other, "x += 1")
            os.kill(other.pid, signal.SIGKILL)

            assert run(other, "x") == "2\n"


@pytest.fixture(scope="module")
def saved_state(tmp_path_factory):
    """A saved state and its file, which no test changes."""
    with open_session() as session:
        session.assign("text", "x" * 1000)
        run(session, "open('/tmp/f', 'w').write('file')")
        run(session, "import random; random.seed(1)")
        state = session.checkpoint()
    path = tmp_path_factory.mktemp("made") / "state.checkpoint"
    state.save(path)
    return state, path


@pytest.fixture
def saved(saved_state, tmp_path):
    """The state, and a copy of its file."""
    state, path = saved_state
    return state, shutil.copy(path, tmp_path / path.name)


class TestFile:
    """The file of a state: versioned, hashed, written atomically."""

    def test_round_trip(self, saved, opened):
        """A loaded file opens a session in the saved state."""
        state, path = saved

        loaded = Checkpoint.load(path)

        assert {name: bytes(data) for name, data in loaded.files.items()} == {
            name: bytes(data) for name, data in state.files.items()
        }
        assert run(opened(restore=loaded), "len(text), open('/tmp/f').read()") == "(1000, 'file')\n"

    def test_it_is_small(self, saved):
        """The file of a fresh interpreter is compressed to less than 10 MB."""
        state, path = saved

        assert path.stat().st_size < 10 * MEBIBYTE < state.size

    @pytest.mark.nightly
    @pytest.mark.parametrize(
        ("block", "largest"),
        [(random.Random(1).randbytes(MEBIBYTE), 261 * MEBIBYTE), (bytes(MEBIBYTE), 2 * MEBIBYTE)],
        ids=["full", "empty"],
    )
    def test_a_large_state(self, tmp_path, block, largest):
        """Hundreds of megabytes are compressed only if they become very small, and are read either way."""
        pages = block * 260
        head = struct.pack("<d", len(pages)) + b"head"
        state = Checkpoint({"boot.head": head, "boot.pages": pages, "disk": b""}, "engine")

        state.save(tmp_path / "state")

        assert (tmp_path / "state").stat().st_size < largest
        assert bytes(Checkpoint.load(tmp_path / "state").files["boot.pages"]) == pages

    def test_an_existing_file_is_replaced(self, saved):
        """The file is replaced atomically, and no temporary file remains."""
        state, path = saved
        path.write_bytes(b"old")

        state.save(path)

        assert list(path.parent.iterdir()) == [path]
        assert Checkpoint.load(path).engine == state.engine

    def test_a_folder_that_is_not_there(self, saved, tmp_path):
        """Saving into a missing folder raises the operating system's error."""
        with pytest.raises(FileNotFoundError):
            saved[0].save(tmp_path / "none" / "state")

    def test_something_else(self, tmp_path):
        """A file without the magic bytes is refused."""
        (tmp_path / "x").write_text("hello")

        with pytest.raises(CheckpointError, match="it is not a checkpoint"):
            Checkpoint.load(tmp_path / "x")

    def test_another_version(self, tmp_path):
        """The refusal of another format version names both numbers."""
        path = written(tmp_path / "x", {**MANIFEST, "format": 99}, sound())

        with pytest.raises(CheckpointError, match=r"version 99, this program reads version 2"):
            Checkpoint.load(path)

    def test_the_format_before_the_zip(self, tmp_path):
        """No release has written it; the message says to save the state again."""
        (tmp_path / "x").write_bytes(b"DSPYRLMC" + bytes(100))

        with pytest.raises(CheckpointError, match=r"older than any release of dspy-rlm\. Save it"):
            Checkpoint.load(tmp_path / "x")

    def test_any_zip_tool_can_look_inside(self, saved):
        """The parts are entries of a zip, and the manifest says what made them."""
        state, path = saved

        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert archive.namelist() == ["manifest.json", "boot.head", "boot.pages", "disk"]
            assert json.loads(archive.read("manifest.json")) == {
                "format": 2,
                "engine": state.engine,
                "packages": "",
            }

    def test_the_same_state_is_the_same_file(self, saved, tmp_path):
        """The file is deterministic: it has no date."""
        state, path = saved
        state.save(tmp_path / "again")

        assert (tmp_path / "again").read_bytes() == path.read_bytes()

    @pytest.mark.parametrize("places", [10, pytest.param(200, marks=pytest.mark.nightly)])
    def test_damage_anywhere_is_found(self, saved, places):
        """A changed byte of a part, or a truncated file, is detected."""
        _, path = saved
        good = path.read_bytes()
        with zipfile.ZipFile(path) as archive:
            pages, disk = (archive.getinfo(name).header_offset for name in ("boot.pages", "disk"))
        dice = random.Random(1)
        for _ in range(places):
            at = dice.randrange(pages + 100, disk)
            for bad in (good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :], good[:at]):
                path.write_bytes(bad)
                with pytest.raises(CheckpointError):
                    Checkpoint.load(path)

    def test_damage_changes_no_state(self, tmp_path):
        """Any changed byte is detected, or does not affect the state."""
        path = written(tmp_path / "x", MANIFEST, sound())
        good, state = path.read_bytes(), Checkpoint.load(path)
        for at in range(len(good)):
            path.write_bytes(good[:at] + bytes([good[at] ^ 0xFF]) + good[at + 1 :])
            try:
                loaded = Checkpoint.load(path)
            except CheckpointError:
                continue
            assert (loaded.files, loaded.engine) == (state.files, state.engine)


MANIFEST = {"format": 2, "engine": "e", "packages": ""}


def written(path, manifest, parts, method=zipfile.ZIP_DEFLATED):
    """Writes a file with this manifest and these parts, by name or as pairs."""
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    with zipfile.ZipFile(path, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about duplicate names
        archive.writestr("manifest.json", text, zipfile.ZIP_STORED)
        for name, data in dict(parts).items() if isinstance(parts, dict) else parts:
            archive.writestr(name, data)
    return path


def lying(path, name, field, value):
    """Writes a file whose directory states another value for an entry: `struct` format and offset in `field`."""
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    at = data.index(name.encode(), directory) - 46
    form, place = field
    struct.pack_into(form, data, at + place, value)
    path.write_bytes(data)
    return path


FLAGS, METHOD, CRC = ("<H", 8), ("<H", 10), ("<I", 16)
PACKED, SIZE, OFFSET = ("<I", 20), ("<I", 24), ("<I", 42)

MEMORY = 10 * MEBIBYTE


def sound(memory=float(MEMORY), pages=b"pages", disk=b"disk"):
    """The valid parts of a file."""
    return {"boot.head": struct.pack("<d", memory) + b"rest", "boot.pages": pages, "disk": disk}


class TestHostileFile:
    """Any file is loaded or is a CheckpointError, at a bounded cost."""

    def test_one_that_is_sound(self, tmp_path):
        """A valid file loads, so that the following tests are meaningful."""
        state = Checkpoint.load(written(tmp_path / "x", MANIFEST, sound()))

        assert state.memory_bytes == MEMORY
        assert bytes(state.files["disk"]) == b"disk"

    @pytest.mark.parametrize(
        "manifest",
        [
            b"",
            b"[" * 60_000,
            b'{"a":' * 10_000,
            b"null",
            b"[]",
            b"\xff",
            b"9" * 50_000,
            b"{}",
            b'{"format": 2}',
            b'{"format": "2", "engine": "e", "packages": ""}',
            b'{"format": true, "engine": "e", "packages": ""}',
            b" " * 100_000,
        ],
        ids=lambda manifest: manifest[:40].decode("latin-1"),
    )
    def test_a_manifest_that_is_none(self, tmp_path, manifest):
        """A manifest that is deep, empty, too long or of wrong types is refused."""
        with pytest.raises(CheckpointError, match="damaged"):
            Checkpoint.load(written(tmp_path / "x", manifest, sound()))

    @pytest.mark.parametrize("name", ["manifest.json", "boot.head", "boot.pages", "disk"])
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            (SIZE, 0),
            (SIZE, 3),
            (SIZE, 1000),
            (SIZE, 2**32 - 1),
            (PACKED, 0),
            (OFFSET, 1),
            (OFFSET, 2**31),
            (OFFSET, 2**32 - 1),
            (CRC, 1),
            (FLAGS, 1),
            (METHOD, 12),
            (METHOD, 14),
            (METHOD, 99),
        ],
    )
    def test_a_directory_that_lies(self, tmp_path, name, field, value):
        """A wrong size, offset, checksum or compression method in the directory is refused."""
        path = lying(written(tmp_path / "x", MANIFEST, sound()), name, field, value)

        with pytest.raises(CheckpointError, match="damaged"):
            Checkpoint.load(path)

    def test_a_packed_size_that_is_too_large(self, tmp_path):
        """A wrong compressed size has no effect: a part ends with its compressed stream."""
        path = lying(written(tmp_path / "x", MANIFEST, sound()), "disk", PACKED, 2**31)

        assert Checkpoint.load(path).files["disk"] == b"disk"

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_another_compression(self, tmp_path, method):
        """The file could otherwise choose the memory that unpacking takes."""
        with pytest.raises(CheckpointError, match="compressed with another method"):
            Checkpoint.load(written(tmp_path / "x", MANIFEST, sound(), method))

    def test_a_long_directory(self, tmp_path):
        """A long directory is refused before it is read as a whole."""
        parts = [(f"{n:0200}", b"") for n in range(20_000)]
        path = written(tmp_path / "x", MANIFEST, parts)

        with Cost() as cost, pytest.raises(CheckpointError, match="its directory is too long"):
            Checkpoint.load(path)

        assert cost.peak_bytes < 4 * MEBIBYTE

    @pytest.mark.parametrize(
        "memory", [float("nan"), float("inf"), -1.0, 0.0, 1.5, 2.0**40, -0.0], ids=str
    )
    def test_a_head_without_a_size(self, tmp_path, memory):
        """The head is checked before anything else is unpacked."""
        with pytest.raises(CheckpointError, match="the head does not state"):
            Checkpoint.load(written(tmp_path / "x", MANIFEST, sound(memory)))

    def test_no_head(self, tmp_path):
        """A head that is too short for a size is refused."""
        parts = {**sound(), "boot.head": b"abc"}

        with pytest.raises(CheckpointError, match="the head is too short"):
            Checkpoint.load(written(tmp_path / "x", MANIFEST, parts))

    def test_other_parts(self, tmp_path):
        """Parts in another order, duplicate or additional parts are refused."""
        parts = list(sound().items())
        for others in (parts[::-1], [*parts, parts[0]], [parts[0]] * 3, parts[:2], []):
            with pytest.raises(CheckpointError, match="exactly the parts of a state"):
                Checkpoint.load(written(tmp_path / "x", MANIFEST, others))

    @pytest.mark.parametrize("field", ["engine", "packages"])
    @pytest.mark.parametrize("value", [None, 1, ["x"], {}])
    def test_what_made_it(self, tmp_path, field, value):
        """The key of the engine must be text."""
        with pytest.raises(CheckpointError, match="does not state the engine that saved it"):
            Checkpoint.load(written(tmp_path / "x", {**MANIFEST, field: value}, sound()))

    def test_pages_of_more_memory_than_there_is(self, tmp_path):
        """A small file of zeros is unpacked only to the size in its head."""
        path = written(tmp_path / "x", MANIFEST, sound(pages=bytes(40 * MEBIBYTE)))

        with Cost() as cost, pytest.raises(CheckpointError, match=r"boot\.pages has 41,943,040"):
            Checkpoint.load(path)

        assert cost.peak_bytes < 10 * MEBIBYTE

    def test_more_memory_than_the_caller_allows(self, tmp_path):
        """The head shows it, before the pages are unpacked."""
        path = written(tmp_path / "x", MANIFEST, sound())

        with pytest.raises(CheckpointError, match="needs 10,485,760 bytes of memory, more than 1,"):
            Checkpoint.load(path, memory_bytes=1_000_000)

    def test_a_part_that_says_less_than_it_holds(self, tmp_path):
        """A part is not unpacked beyond its stated size."""
        path = written(tmp_path / "x", MANIFEST, sound(pages=bytes(8 * MEBIBYTE)))
        lying(path, "boot.pages", SIZE, 1000)

        with Cost() as cost, pytest.raises(CheckpointError, match="damaged"):
            Checkpoint.load(path)

        assert cost.peak_bytes < 4 * MEBIBYTE

    def test_a_state_takes_what_it_is(self, tmp_path):
        """Unpacking needs no second copy in memory."""
        parts = sound(60.0 * MEBIBYTE, pages=bytes(60 * MEBIBYTE), disk=b"")
        path = written(tmp_path / "x", MANIFEST, parts)

        with Cost() as cost:
            state = Checkpoint.load(path)

        assert cost.peak_bytes < 1.5 * state.size

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files")
    def test_a_pipe(self, tmp_path):
        """A named pipe is refused without blocking."""
        os.mkfifo(tmp_path / "x")

        with pytest.raises(CheckpointError, match="it is not a regular file"):
            Checkpoint.load(tmp_path / "x")

    def test_a_device(self):
        """A device, which has no end, is refused."""
        if not os.path.exists("/dev/zero"):  # noqa: PTH110
            pytest.skip("there are no such files")

        with pytest.raises(CheckpointError, match="it is not a regular file"):
            Checkpoint.load("/dev/zero")


class TestRefusal:
    """A state that cannot be restored is refused before a process starts."""

    def test_another_engine(self, opened):
        """The memory of another engine cannot be read."""
        state = opened().checkpoint()

        with pytest.raises(CheckpointError, match="another version of the sandbox"):
            open_session(restore=Checkpoint(state.files, "other"))

    def test_too_little_memory(self, opened):
        """The error states both sizes."""
        session = opened()
        run(session, "x = bytes(200_000_000)")
        state = session.checkpoint()

        with pytest.raises(
            CheckpointError, match=r"more than Limits.memory_bytes allows \(134,217"
        ):
            open_session(limits=Limits(memory_bytes=128 * MEBIBYTE), restore=state)
