"""Data in a journal: without secrets, long texts by reference, prompts by what is new in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspy_rlm.journal.errors import MissingValueError
from dspy_rlm.journal.file import JournalFile
from dspy_rlm.journal.packing import Packer, patched, unpacked
from dspy_rlm.journal.records import Ref
from dspy_rlm.journal.secrets import KnownSecrets
from dspy_rlm.journal.stored_values import StoredValues
from dspy_rlm.journal.values import INLINE_CHARS, ValueWriter

KEY = "sk-Tq8vLx2NcWz51RmPq0Yd"
LONG = "a line of text\n" * INLINE_CHARS


class OnDisk:
    """A packer, and a reader of what it has stored."""

    def __init__(self, folder: Path) -> None:
        path = folder / "run.jsonl"
        self.journal = JournalFile(lambda: (path, -1))
        self.journal.path = path
        self.packer = Packer(ValueWriter(self.journal), KnownSecrets(lambda: [KEY]))
        self.reader = StoredValues(path)
        self.folder = folder / "run.values"


@pytest.fixture
def disk(tmp_path: Path) -> OnDisk:
    return OnDisk(tmp_path)


json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts),
    max_leaves=20,
)


class TestTexts:
    def test_a_long_text_is_stored_once(self, disk):
        """Two references to equal texts are to one file, which is named by its digest."""
        first, second = disk.packer.text(LONG), disk.packer.text(LONG)

        assert first == second == {"$value": first["$value"], "chars": len(LONG)}
        assert [path.name for path in disk.folder.iterdir()] == [first["$value"]]
        assert unpacked(first, disk.reader).read() == LONG

    def test_a_lone_surrogate_survives(self, disk):
        """A text that is not valid Unicode comes back as it was."""
        packed = disk.packer.text("\ud800" * 5000)

        assert unpacked(packed, disk.reader).read() == "\ud800" * 5000

    def test_a_text_is_kept_in_the_journal_if_no_value_can_be_written(self, disk):
        """A folder that cannot be created costs nothing but the reference, and is noted."""
        disk.folder.write_text("a file in its place")

        assert disk.packer.text(LONG) == LONG
        assert "run.values" in disk.journal.problem or disk.journal.problem

    def test_a_half_written_value_is_written_again(self, disk):
        """A process that was killed while it wrote leaves a part, which the next one replaces."""
        digest = disk.packer.text(LONG)["$value"]
        (disk.folder / digest).write_text("a line")
        again = OnDisk(disk.folder.parent)

        again.packer.text(LONG)

        assert again.reader.text(digest) == LONG


class TestSecrets:
    @pytest.mark.parametrize("text", [KEY, f"key={KEY}", f"{LONG}{KEY}{LONG}", KEY.upper()])
    def test_a_known_secret_is_never_written(self, disk, text):
        """Neither in the journal nor in a value beside it, plain or encoded."""
        packed = disk.packer.text(text)
        whole = str(packed) + "".join(path.read_text() for path in disk.folder.glob("*"))

        assert KEY.lower() not in whole.lower()

    def test_what_merely_looks_like_a_secret_is_data(self, disk):
        """A resumed run must get it back unchanged."""
        text = "token=ghp_0123456789abcdefghijABCDEFGHIJ012345"

        assert disk.packer.text(text) == text

    @pytest.mark.parametrize("at", range(-3, 4))
    def test_a_secret_at_the_edge_of_a_change_is_found(self, disk, at):
        """A prompt that repeats the beginning of a secret, and then goes on with its rest, is written without it."""
        shared = "x" * 500 + KEY[: 10 + at]
        _, before = disk.packer.json(shared)
        packed, clean = disk.packer.json(shared + KEY[10 + at :] + " and more", before)

        assert KEY not in clean
        assert patched(packed, before, disk.reader) == clean


class TestPrompts:
    def test_only_what_is_new_is_written(self, disk):
        """A history of 200 steps is stored in linear size: each prompt has the one before, and a step more."""
        head, tail = "instructions " * 300, "respond " * 50
        history, before, sizes = "", None, []
        for number in range(200):
            history += f"step {number}: {'output ' * 20}\n"
            messages = [{"role": "user", "content": head + history + tail}]
            packed, before = disk.packer.json(messages, before)
            sizes.append(len(str(packed)))

        assert max(sizes[1:]) < 400
        assert before == messages

    @given(one=json_data, other=json_data)
    def test_a_change_leads_to_the_data(self, one, other, tmp_path_factory):
        """Data comes back as it was, whatever it is packed as a change of."""
        disk = OnDisk(tmp_path_factory.mktemp("packed"))
        data, before = _named(other), disk.packer.json(_named(one))[1]

        packed, clean = disk.packer.json(data, before)

        assert clean == data
        assert patched(packed, before, disk.reader) == data

    def test_a_change_of_nothing_is_an_error(self, disk):
        """A prompt whose predecessor is lost cannot be read, and says so."""
        with pytest.raises(MissingValueError, match="before this one is missing"):
            patched({"$from": [5, 0], "new": "x"}, None, disk.reader)


@pytest.mark.parametrize("data", [{"$value": "x"}, {"$ref": "#/x"}, {"$json": 1}, [{"$from": []}]])
def test_data_with_a_dollar_sign_is_data(data, disk):
    """A JSON schema has keys like those that a journal uses; they come back unchanged."""
    packed, _ = disk.packer.json(data)

    assert patched(packed, None, disk.reader) == data


@pytest.mark.parametrize(
    "packed",
    [
        {"$value": "../../etc/passwd", "chars": 1},
        {"$value": "0" * 64, "chars": 1},
        {"$value": 7, "chars": 1},
        {"$value": "0" * 64, "chars": -1},
        {"$value": "/etc/passwd", "chars": 1},
        {"$json": "{"},
        {"$json": 5},
        {"$from": [-1, 0], "new": ""},
        {"$from": [9, 9], "new": ""},
        {"$from": "x", "new": ""},
        {"$from": [True, 0], "new": ""},
        {"$from": [1, 1], "new": 5},
    ],
)
def test_hostile_data_is_refused(packed: Any, disk):
    """A journal of unknown origin names no file but values, and none that does not have its digest."""
    with pytest.raises(MissingValueError):
        patched(packed, "before", disk.reader)


def test_deep_data_is_refused(disk):
    """A journal that is nested very deeply does not end the process."""
    packed: Any = "x"
    for _ in range(5000):
        packed = [packed]

    with pytest.raises(MissingValueError, match="too deeply"):
        unpacked(packed, disk.reader)


class TestReader:
    def test_a_damaged_value_is_refused(self, disk):
        """A file with another digest than its name is not returned."""
        reference = unpacked(disk.packer.text(LONG), disk.reader)
        assert isinstance(reference, Ref)
        (disk.folder / reference.sha256).write_text(LONG + "x")

        with pytest.raises(MissingValueError, match="damaged"):
            reference.read()

    def test_a_link_is_not_followed(self, disk, tmp_path):
        """A value that is a symbolic link to another file is refused."""
        reference = unpacked(disk.packer.text(LONG), disk.reader)
        target = (disk.folder / reference.sha256).rename(tmp_path / "elsewhere")
        (disk.folder / reference.sha256).symlink_to(target)

        with pytest.raises(MissingValueError):
            reference.read()

    def test_a_large_value_is_refused(self, disk, tmp_path):
        """A reader has a bound for what it reads into memory."""
        reference = unpacked(disk.packer.text(LONG), disk.reader)

        with pytest.raises(MissingValueError, match="more than 100"):
            StoredValues(tmp_path / "run.jsonl", max_bytes=100).text(reference.sha256)


def _named(data: Any) -> Any:
    """Returns the data with dictionaries whose keys are strings, as JSON has them."""
    return {"value": data}
