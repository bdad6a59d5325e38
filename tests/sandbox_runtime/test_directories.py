"""Untrusted folders: listing is bounded whatever they contain, and reports what it leaves out."""

from __future__ import annotations

import contextlib
import os
import socket
import time

import pytest

from sandbox_runtime import Directory, Limits, TextChangedError, TextFile
from sandbox_runtime.texts.calls import TextCalls
from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.listing import walk as directories

posix = pytest.mark.skipif(os.name != "posix", reason="needs the files of POSIX")


@pytest.fixture
def calls():
    """The calls of one session."""
    one = TextCalls(Limits(search_seconds=20))
    yield one
    one.close()


class TestRules:
    @pytest.mark.parametrize("stars", [4, 5, 6, 400])
    def test_a_hostile_rule_costs_little(self, tmp_path, stars):
        """A rule that takes a backtracking matcher years costs next to nothing."""
        (tmp_path / ".gitignore").write_text("a*" * stars + "b\n")
        (tmp_path / ("a" * 200)).touch()
        started = time.thread_time()

        assert len(Directory(tmp_path).sizes()) == 1

        assert time.thread_time() - started < 2

    def test_too_many_rules_are_skipped_and_reported(self, tmp_path):
        """Excess rules are not applied: the files are listed, and the size reports it."""
        (tmp_path / ".gitignore").write_text("*.log\n" * directories.MAX_RULES)
        (tmp_path / "a.log").touch()
        folder = Directory(tmp_path)

        assert list(folder.sizes()) == ["a.log"]
        assert "left out: 1 .gitignore files with more than" in folder.size

    def test_an_oversized_gitignore_is_skipped(self, tmp_path):
        """A `.gitignore` over the size bound is skipped and reported; one at the bound is parsed fast."""
        (tmp_path / ".gitignore").write_bytes(b"x" * (directories.MAX_RULES_BYTES + 1))
        (tmp_path / "a.log").touch()

        assert "left out: 1 .gitignore files" in Directory(tmp_path).size
        (tmp_path / ".gitignore").write_bytes(b"x" * directories.MAX_RULES_BYTES)
        assert "1 rules of .gitignore that are too long" in Directory(tmp_path).size

    def test_rules_of_many_folders_count_together(self, tmp_path):
        """Rules add up along a path, so that the work for one file is bounded by their sum."""
        at = tmp_path
        for _ in range(5):
            (at / ".gitignore").write_text("*x*y\n" * (directories.MAX_RULES // 3))
            at = at / "deeper"
            at.mkdir()
        (at / "file").touch()

        assert "left out: 2 .gitignore files" in Directory(tmp_path).size

    @posix
    @pytest.mark.parametrize("kind", ["fifo", "link", "folder", "socket"])
    def test_a_gitignore_that_is_no_regular_file_is_ignored(self, tmp_path, kind):
        """A `.gitignore` that is not a regular file is ignored: a pipe would block, a link could lead anywhere."""
        root = tmp_path / "root"
        root.mkdir()
        (root / "a").touch()
        rules = root / ".gitignore"
        if kind == "fifo":
            os.mkfifo(rules)
        elif kind == "link":
            (tmp_path / "elsewhere").write_text("a\n")
            rules.symlink_to(tmp_path / "elsewhere")
        elif kind == "folder":
            rules.mkdir()
        else:
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(os.fspath(rules)[-90:] if len(os.fspath(rules)) < 90 else "unused")
                if not rules.exists():
                    pytest.fail("the path of the test is too long for a socket")

        assert list(Directory(root).sizes()) == ["a"]


class TestSizes:
    def test_too_much_work_is_refused_with_alternatives(self, tmp_path, monkeypatch):
        """The bound is CPU time, so a slow disk alone never exceeds it."""
        monkeypatch.setattr(directories, "MAX_LISTING_SECONDS", 0.0)
        (tmp_path / "a").touch()

        with pytest.raises(ValueError, match="Pass one of its subfolders, a narrower pattern"):
            Directory(tmp_path).sizes()

    @pytest.mark.parametrize(
        ("bound", "message"),
        [
            ("MAX_FILES", "more than 10 files"),
            ("MAX_PATH_CHARS", "paths of more than 10 characters together"),
            ("MAX_ENTRIES", "more than 10 files and folders"),
        ],
    )
    def test_oversized_folders_are_refused(self, tmp_path, monkeypatch, bound, message):
        """The number of files, their paths and all entries examined, even hidden ones, are bounded."""
        monkeypatch.setattr(directories, bound, 10)
        prefix = "." if bound == "MAX_ENTRIES" else ""
        for number in range(200):
            (tmp_path / f"{prefix}{number}").touch()

        with pytest.raises(ValueError, match=message):
            Directory(tmp_path).sizes()

    def test_a_folder_as_deep_as_the_system_allows_is_listed(self, tmp_path):
        """A path longer than PATH_MAX can be listed, because each level is opened from the one above."""
        at = os.open(tmp_path, os.O_RDONLY)
        for _ in range(60):
            os.mkdir("d" * 200, dir_fd=at)
            at, above = os.open("d" * 200, os.O_RDONLY, dir_fd=at), at
            os.close(above)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        os.close(at)

        assert [len(path) for path in Directory(tmp_path).sizes()] == [60 * 201 + 4]

    @posix
    def test_names_that_are_not_utf_8_are_counted(self, tmp_path):
        """Names that are not UTF-8 cannot be shown to a cell, so they are left out and counted."""
        (tmp_path / "good").touch()
        try:
            os.close(os.open(os.fsencode(tmp_path) + b"/bad\xff", os.O_CREAT))
        except OSError:
            pytest.skip("this file system has no such names")

        assert (
            Directory(tmp_path).size
            == "1 files, 0 bytes; left out: 1 files whose names are not UTF-8"
        )

    def test_loops_of_links_are_not_followed(self, tmp_path):
        """A link to itself and a link to a parent folder end no listing."""
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "round").symlink_to(tmp_path)
        (tmp_path / "self").symlink_to("self")
        (tmp_path / "a" / "file").touch()

        assert list(Directory(tmp_path).sizes()) == ["a/file"]

    def test_a_search_keeps_no_files(self, tmp_path, calls):
        """A search through a million files must not keep their objects."""
        for number in range(50):
            (tmp_path / f"{number}.txt").write_text("needle\n")
        folder = Directory(tmp_path)

        assert len(calls(folder, "grep", "needle", 0, None, 1, 1, 100)["hits"]) == 50
        assert len(folder._files) == 0
        kept = folder.file("1.txt")
        assert folder.file("1.txt") is kept


@posix
class TestReplacedFiles:
    """A file may be replaced at any time between listing, opening and reading."""

    @staticmethod
    def become(path, kind, tmp_path):
        path.unlink()
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "link":
            (tmp_path / "secret").write_text("secret\n")
            path.symlink_to(tmp_path / "secret")
        elif kind == "grown":
            path.write_text("more than before\n")

    @pytest.mark.parametrize("kind", ["fifo", "folder", "device", "link", "gone"])
    @pytest.mark.parametrize("opened", [False, True])
    @pytest.mark.parametrize("operation", ["read", "grep"])
    def test_a_replaced_file_raises_without_blocking(
        self, tmp_path, calls, kind, opened, operation
    ):
        """A replaced file raises an error and never blocks, before its first opening and after it."""
        root = tmp_path / "root"
        root.mkdir()
        (root / "a.txt").write_text("text\n")
        folder = Directory(root)
        folder.sizes()
        text = folder.file("a.txt") if opened else None
        self.become(root / "a.txt", kind, tmp_path)

        calls_by_case = {
            ("read", False): (folder, "file", "a.txt"),
            ("read", True): (text, "read", 0, 9),
            ("grep", False): (folder, "grep", "secret", 0, None, 0, 0, 9),
            ("grep", True): (text, "grep", "secret", 0, 0, 0, 0, 9),
        }
        with pytest.raises(TextChangedError):
            calls(*calls_by_case[operation, opened])

    def test_a_folder_that_became_a_link_is_not_followed(self, tmp_path, calls):
        """A folder replaced by a link, also during the listing, does not lead outside."""
        root, outside = tmp_path / "root", tmp_path / "outside"
        (root / "src").mkdir(parents=True)
        outside.mkdir()
        for place in (root / "src", outside):
            (place / "a.txt").write_text(place.name)
        folder = Directory(root)
        folder.sizes()
        (root / "src").rename(tmp_path / "away")
        (root / "src").symlink_to(outside)

        with pytest.raises(TextChangedError):
            calls(folder, "file", "src/a.txt")
        assert list(Directory(root).sizes()) == []

    def test_a_file_that_grows_or_shrinks_while_it_is_read(self, tmp_path, calls):
        """A file whose size changed raises an error."""
        file = tmp_path / "a.txt"
        file.write_text("x" * 1000)
        text = TextFile(file)
        assert calls(text, "read", 0, 10) == "x" * 10

        for content in ("x" * 2000, "x"):
            file.write_text(content)
            with pytest.raises(TextChangedError):
                calls(text, "length")

    @pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
    def test_special_files_are_refused_at_once(self, tmp_path, kind):
        """A path that the user names must be a regular file as well."""
        path = tmp_path / "a"
        path.touch()
        self.become(path, kind, tmp_path)

        with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
            TextFile(path)


def test_a_second_session_waits_no_longer_than_its_own_time(tmp_path):
    """The deadline also bounds the wait for a lock that another session holds."""
    (tmp_path / "a").touch()
    folder = Directory(tmp_path)

    with folder._lock, pytest.raises(TimeoutError):
        folder.sizes(Deadline(0.1, "Limits.search_seconds"))


class TestDirectories:
    def test_what_is_listed(self, project):
        """The list is Git's: no hidden or ignored files, and the nearest rules win. Links are left out too."""
        assert list(Directory(project).sizes()) == [
            "README.md",
            "data.bin",
            "src/a.py",
            "src/deep/b.py",
            "src/deep/keep.log",
        ]
        assert list(Directory(project, "src/**/*.py").sizes()) == ["src/a.py", "src/deep/b.py"]
        assert list(Directory(project, "*.py").sizes()) == ["src/a.py", "src/deep/b.py"]
        assert list(Directory(project, "src/*.py").sizes()) == ["src/a.py"]
        assert "app.log" in Directory(project, gitignore=False).sizes()

    @pytest.mark.parametrize(
        "path",
        [
            "../outside/secret.txt",
            "/etc/passwd",
            "link.txt",
            "linked/secret.txt",
            "",
            ".env",
            "src",
        ],
    )
    def test_nothing_else_can_be_read(self, project, path):
        """A path is looked up in the list and never becomes a path of the file system."""
        with pytest.raises(KeyError):
            Directory(project).file(path)

    def test_a_file_or_folder_that_became_a_link_is_not_followed(self, project, tmp_path):
        """A file or folder that was replaced by a link after listing raises an error."""
        folder = Directory(project)
        folder.sizes()
        (project / "README.md").unlink()
        (project / "README.md").symlink_to(tmp_path / "outside" / "secret.txt")
        (project / "src").rename(tmp_path / "elsewhere")
        (project / "src").symlink_to(tmp_path / "elsewhere")

        for path in ("README.md", "src/a.py"):
            with pytest.raises(OSError, match=r"not a regular file|Not a directory|symbolic link"):
                folder.file(path)

    @pytest.mark.parametrize("path", ["src", "src/a.py", "src/deep", "src/deep/b.py"])
    def test_entries_removed_during_the_listing_are_left_out(self, project, path, monkeypatch):
        """Concurrent changes in a folder must not end a run."""
        listed, real = list(Directory(project).sizes()), os.scandir
        gone, parent = project / path, (project / path).parent.stat()

        @contextlib.contextmanager
        def scandir(folder):
            with real(folder) as entries:
                listing = list(entries)
                here = os.stat(folder)  # noqa: PTH116 - a descriptor
                if os.path.samestat(here, parent) and gone.exists():
                    gone.unlink() if gone.is_file() else gone.rename(project.parent / "elsewhere")
                yield iter(listing)

        monkeypatch.setattr(os, "scandir", scandir)

        assert list(Directory(project).sizes()) == [
            other for other in listed if other != path and not other.startswith(f"{path}/")
        ]

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
    def test_an_unreadable_folder(self, project):
        """An unreadable subfolder is left out; an unreadable root is an error, since it may not be empty."""
        (project / "src").chmod(0)
        try:
            assert list(Directory(project).sizes()) == ["README.md", "data.bin"]
        finally:
            (project / "src").chmod(0o755)
        folder = Directory(project)
        project.chmod(0)
        try:
            with pytest.raises(PermissionError):
                folder.sizes()
        finally:
            project.chmod(0o755)

    def test_a_removed_folder(self, project):
        """A removed folder raises an error that does not reveal its path to the cell."""
        folder = Directory(project)
        project.rename(project.parent / "elsewhere")

        with pytest.raises(FileNotFoundError):
            folder.sizes()
        with pytest.raises(TextChangedError) as caught:
            TextCalls(Limits())(folder, "sizes", None)
        assert str(caught.value) == "project cannot be listed: No such file or directory."

    def test_stars_take_no_time(self, project):
        """Globs come from cells, so a hostile one must not take long."""
        calls = TextCalls(Limits())
        with pytest.raises(ValueError, match="2,999 characters"):
            calls(Directory(project), "sizes", "/".join(["**"] * 1000))
        started = time.process_time()
        (project / ("a" * 200)).write_text("")
        assert calls(Directory(project), "sizes", "a*a*a*a*a*a*a*a*a*ab") == []
        assert time.process_time() - started < 1
