"""Merging wheels into one bundle, including malicious ones."""

from __future__ import annotations

import json
import os
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from package_index import sha256

from sandbox_runtime.packages import wheels


def repeat_entries(path: Path, count: int) -> None:
    """Lists the first file of an archive several times, but states the same number of files as before."""
    data = path.read_bytes()
    at = data.rfind(b"PK\5\6")
    *_, number, length, start, _ = struct.unpack("<4s4H2LH", data[at : at + 22])
    directory = data[start : start + length]
    first = directory[: directory.find(b"PK\1\2", 4)]
    directory = first * (count - 1) + directory
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, number, number, len(directory), start, 0)
    path.write_bytes(data[:start] + directory + end)


class TestBundle:
    """A bundle contains the files of several wheels."""

    def test_only_modules_and_their_data(self, wheel, tmp_path):
        """Files that an installer would put elsewhere are omitted, except for libraries."""
        path = wheel(
            "thing",
            files={
                "thing.py": "x",
                "thing-1.0.data/purelib/more.py": "yy",
                "thing-1.0.data/scripts/run": "zzz",
                "_hidden/__init__.py": "",
                "native.cpython-314-wasm32-emscripten.so": "",
                "space/inner.py": "",
            },
        )

        target = tmp_path / "bundle"
        assert wheels.write_bundle(target, [path]) == (target.stat().st_size, sha256(target))
        wheel_bytes = target.read_bytes()
        size = int.from_bytes(wheel_bytes[:4], "little")
        index = dict(json.loads(wheel_bytes[4 : 4 + size]))

        assert index["/packages/thing.py"] == 1
        assert index["/packages/more.py"] == 2
        assert not [name for name in index if "scripts" in name]
        assert len(wheel_bytes) == 4 + size + sum(index.values())
        assert wheels.top_level_modules(path) == ["more", "native", "thing"]

    def test_a_file_that_is_no_archive(self, tmp_path):
        """The error names the file."""
        path = tmp_path / "thing-1.0-py3-none-any.whl"
        path.write_bytes(b"no archive")

        with pytest.raises(ValueError, match=r"thing-1\.0-py3-none-any\.whl cannot be unpacked"):
            wheels.write_bundle(tmp_path / "bundle", [path])


class TestBombs:
    """Bounds on a wheel's content hold, and no file is held in memory as a whole."""

    def test_one_that_expands_beyond_measure_is_not_unpacked(self, wheel, tmp_path, monkeypatch):
        """An expansion of more than two hundred times is refused, unless the archive is small."""
        path = wheel("thing", files={"thing.py": "#" * 5_000_000})

        assert wheels.write_bundle(tmp_path / "bundle", [path])[0] > 5_000_000
        monkeypatch.setattr(wheels, "SMALL_BYTES", 1_000_000)
        with pytest.raises(ValueError, match="more than 200 times its own"):
            wheels.write_bundle(tmp_path / "bundle", [path])

    def test_one_that_says_less_than_it_holds(self, wheel, tmp_path):
        """A file longer than the archive states is an error."""
        path = wheel("thing", files={"thing.py": "#" * 1_000})
        data = path.read_bytes()
        told_length, other = (1_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
        assert told_length in data
        path.write_bytes(data.replace(told_length, other))

        with pytest.raises(ValueError, match=r"cannot be unpacked|not as long"):
            wheels.write_bundle(tmp_path / "bundle", [path])

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("comment", [b"", b"x" * 1_000])
    def test_too_many_files(self, tmp_path, comment):
        """The count is checked in the archive's end record, before its directory is read."""
        path = tmp_path / "thing-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(wheels.MAX_FILES + 2):
                archive.writestr(f"{number}", "")
            archive.comment = comment

        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="lists more than 65,535 files"):
                wheels.top_level_modules(path)
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()

    def test_a_long_list_of_files(self, tmp_path):
        """The directory's size in bytes counts, not only the stated number of files."""
        path = tmp_path / "thing-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(300):
                archive.writestr(f"{number}{'x' * 60_000}", "")

        with pytest.raises(ValueError, match="in more than 16,777,216 bytes"):
            wheels.metadata_of(path)

    def test_more_files_than_the_archive_states(self, wheel):
        """The entries are counted in the directory itself: `zipfile` reads them all, whatever number is stated."""
        path = wheel("thing")
        repeat_entries(path, wheels.MAX_FILES + 1)

        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="lists more than 65,535 files"):
                wheels.metadata_of(path)
            assert tracemalloc.get_traced_memory()[1] < 2 * wheels.MAX_DIRECTORY_BYTES
        finally:
            tracemalloc.stop()

    def test_as_many_files_as_there_may_be(self, wheel, monkeypatch):
        """The bound is the last number that is accepted, also of entries with names and texts of other lengths."""
        monkeypatch.setattr(wheels, "MAX_FILES", 5)
        files = {f"thing/{'x' * number}.py": "" for number in range(2)}

        assert wheels.metadata_of(wheel("thing", files=files)).name == "thing"
        with pytest.raises(ValueError, match="lists more than 5 files"):
            wheels.metadata_of(wheel("thing", files={**files, "more.py": ""}))

    def test_a_file_twice(self, wheel, tmp_path):
        """Two entries of one name are refused before anything of either is read."""
        path = wheel("thing")
        repeat_entries(path, 2)

        for read in (
            lambda: wheels.write_bundle(tmp_path / "bundle", [path]),
            lambda: wheels.metadata_of(path),
            lambda: wheels.top_level_modules(path),
        ):
            with pytest.raises(
                ValueError, match=r"thing-1\.0-py3-none-any\.whl lists a file twice"
            ):
                read()

    def test_many_wheels_with_the_same_files(self, wheel, tmp_path, monkeypatch):
        """The entries of all wheels count, not only the paths that they have together."""
        monkeypatch.setattr(wheels, "MAX_FILES", 11)
        paths = [wheel("thing", f"{n}.0", files={"a.py": "", "b.py": ""}) for n in range(3)]

        assert wheels.write_bundle(tmp_path / "bundle", paths[:2])[0] > 0
        with pytest.raises(ValueError, match="more than 11 files"):
            wheels.write_bundle(tmp_path / "bundle", paths)

    def test_texts_beside_the_files(self, tmp_path):
        """The comments of entries are not kept while a bundle of many wheels is written."""
        paths = [tmp_path / f"thing{number}-1.0-py3-none-any.whl" for number in range(8)]
        for path in paths:
            with zipfile.ZipFile(path, "w") as archive:
                for number in range(100):
                    info = zipfile.ZipInfo(f"{number}.py")
                    info.comment = b"x" * 60_000
                    archive.writestr(info, "")

        tracemalloc.start()
        try:
            wheels.write_bundle(tmp_path / "bundle", paths)
            assert tracemalloc.get_traced_memory()[1] < 24_000_000
        finally:
            tracemalloc.stop()

    def test_a_bundle_is_never_in_memory(self, tmp_path):
        """Whatever its size on disk, one chunk at a time is in memory."""
        path = tmp_path / "thing-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for number in range(10):
                archive.writestr(f"{number}", os.urandom(10_000_000))

        tracemalloc.start()
        try:
            assert wheels.write_bundle(tmp_path / "bundle", [path])[0] > 100_000_000
            assert tracemalloc.get_traced_memory()[1] < 20_000_000
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize(
        ("says", "reason"),
        [
            ("Name: other\n", "exactly once"),
            ("x" * 9_000_000, "bytes of metadata"),
        ],
        ids=["twice", "long"],
    )
    def test_metadata_that_is_not_sound(self, wheel, says, reason):
        """Metadata must state name and version exactly once, and be short."""
        with pytest.raises(ValueError, match=reason):
            wheels.metadata_of(wheel("thing", says=says))

    def test_too_many_modules_at_the_top(self, wheel):
        """Each top-level module would be imported and named to the LM."""
        path = wheel("thing", files={f"m{number}.py": "" for number in range(1_001)})

        with pytest.raises(ValueError, match="has 1,001 top-level modules"):
            wheels.top_level_modules(path)

    @pytest.mark.parametrize(
        ("names", "reason"),
        [
            (["thing/a", "thing/a/b"], "a file and a folder of one name: '/packages/thing/a'"),
            (["thing/a/b/c", "thing/a"], "a file and a folder of one name"),
            (["thing-1.0.data/purelib/thing", "thing/x"], "a file and a folder of one name"),
            (["thing/" + "d/" * 600 + "f"], "a path of 1,207 characters"),
            (["thing/" + "x" * 2_000], "a path of 2,006 characters"),
        ],
        ids=["file first", "folder first", "other place", "deep", "long"],
    )
    def test_paths_that_no_disk_has(self, wheel, tmp_path, names, reason):
        """A bundle that the sandbox could not mount is refused when it is built."""
        path = wheel("thing", files=dict.fromkeys(names, ""))

        with pytest.raises(ValueError, match=reason):
            wheels.write_bundle(tmp_path / "bundle", [path])

    def test_too_many_folders(self, wheel, tmp_path, monkeypatch):
        """Few files can need many folders, each of which costs the sandbox's start."""
        monkeypatch.setattr(wheels, "MAX_FILES", 1_000)
        path = wheel("thing", files={f"{n}/" + "d/" * 90 + "f": "" for n in range(20)})

        with pytest.raises(ValueError, match="more than 1,000 folders"):
            wheels.write_bundle(tmp_path / "bundle", [path])

    @pytest.mark.parametrize("cut", [0, 1, 30, 500])
    def test_a_damaged_archive(self, wheel, cut, tmp_path):
        """Every kind of damage is the same error, with a reason."""
        path = wheel("thing")
        data = path.read_bytes()
        path.write_bytes(data[:cut] + data[cut + 3 :] if cut else b"")

        with pytest.raises(ValueError, match=re.escape(path.name)):
            wheels.write_bundle(tmp_path / "bundle", [path])
