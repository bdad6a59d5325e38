"""Folders of strangers: whatever is in them, they are listed within bounds, and what is left out is said."""

from __future__ import annotations

import os
import socket
import time

import pytest

from sandbox_runtime import Directory, Limits, TextChangedError, TextFile
from sandbox_runtime.texts import directory as directories
from sandbox_runtime.texts.bytes import Deadline
from sandbox_runtime.texts.calls import TextCalls

posix = pytest.mark.skipif(os.name != "posix", reason="needs the files of POSIX")


@pytest.fixture
def calls():
    """What serves a session."""
    one = TextCalls(Limits(search_seconds=20))
    yield one
    one.close()


class TestRules:
    @pytest.mark.parametrize("stars", [4, 5, 6, 400])
    def test_stars_of_a_rule_freeze_nobody(self, tmp_path, stars):
        """A file whose name nearly fits, and a rule that regular expressions take years for."""
        (tmp_path / ".gitignore").write_text("a*" * stars + "b\n")
        (tmp_path / ("a" * 200)).touch()
        started = time.thread_time()

        assert len(Directory(tmp_path).sizes()) == 1

        assert time.thread_time() - started < 2

    def test_more_rules_than_a_folder_may_have_are_not_applied_and_this_is_said(self, tmp_path):
        """The files are there, since nobody has looked at the rules, and the size tells it."""
        (tmp_path / ".gitignore").write_text("*.log\n" * directories.MAX_RULES)
        (tmp_path / "a.log").touch()
        folder = Directory(tmp_path)

        assert list(folder.sizes()) == ["a.log"]
        assert "left out: 1 files of rules (.gitignore), with more than" in folder.size

    def test_a_file_of_rules_that_is_too_large_is_not_read(self, tmp_path):
        """It is none, and the size tells it. One of that size and few lines is read in no time."""
        (tmp_path / ".gitignore").write_bytes(b"x" * (directories.MAX_RULES_BYTES + 1))
        (tmp_path / "a.log").touch()

        assert "left out: 1 files of rules" in Directory(tmp_path).size
        (tmp_path / ".gitignore").write_bytes(b"x" * directories.MAX_RULES_BYTES)
        assert "1 rules of .gitignore that are too long" in Directory(tmp_path).size

    def test_rules_of_many_folders_count_together(self, tmp_path):
        """Each folder below another adds its own; the work for a file is bounded by their sum."""
        at = tmp_path
        for _ in range(5):
            (at / ".gitignore").write_text("*x*y\n" * (directories.MAX_RULES // 3))
            at = at / "deeper"
            at.mkdir()
        (at / "file").touch()

        assert "left out: 2 files of rules" in Directory(tmp_path).size

    @posix
    @pytest.mark.parametrize("kind", ["fifo", "link", "folder", "socket"])
    def test_rules_that_are_no_file_are_none(self, tmp_path, kind):
        """A pipe would be waited for, a link could lead to any file."""
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
    def test_work_that_is_too_much_is_refused_with_a_way_out(self, tmp_path, monkeypatch):
        """The bound is one of the processor's work, so that a slow disk is no reason."""
        monkeypatch.setattr(directories, "MAX_LISTING_SECONDS", 0.0)
        (tmp_path / "a").touch()

        with pytest.raises(ValueError, match="Give a folder in it, or another pattern"):
            Directory(tmp_path).sizes()

    @pytest.mark.parametrize(
        ("bound", "told"),
        [
            ("MAX_FILES", "more than 10 files"),
            ("MAX_PATH_CHARS", "paths of more than 10 characters together"),
            ("MAX_ENTRIES", "more than 10 files and folders"),
        ],
    )
    def test_what_is_too_much_is_refused(self, tmp_path, monkeypatch, bound, told):
        """Files, their paths, and whatever is only looked at, hidden or not."""
        monkeypatch.setattr(directories, bound, 10)
        prefix = "." if bound == "MAX_ENTRIES" else ""
        for number in range(200):
            (tmp_path / f"{prefix}{number}").touch()

        with pytest.raises(ValueError, match=told):
            Directory(tmp_path).sizes()

    def test_a_folder_as_deep_as_the_system_allows_is_listed(self, tmp_path):
        """Below a path that is too long for it nothing can be opened; the rest is listed."""
        at = os.open(tmp_path, os.O_RDONLY)
        for _ in range(60):
            os.mkdir("d" * 200, dir_fd=at)
            at, above = os.open("d" * 200, os.O_RDONLY, dir_fd=at), at
            os.close(above)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        os.close(at)

        assert [len(path) for path in Directory(tmp_path).sizes()] == [60 * 201 + 4]

    @posix
    def test_names_that_are_no_text_are_counted(self, tmp_path):
        """They cannot be told to a cell."""
        (tmp_path / "good").touch()
        try:
            os.close(os.open(os.fsencode(tmp_path) + b"/bad\xff", os.O_CREAT))
        except OSError:
            pytest.skip("this file system has no such names")

        assert (
            Directory(tmp_path).size
            == "1 files, 0 bytes; left out: 1 files whose names are no UTF-8"
        )

    def test_loops_of_links_are_not_followed(self, tmp_path):
        """Neither a link to itself, nor one to the folder that it is in."""
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "round").symlink_to(tmp_path)
        (tmp_path / "self").symlink_to("self")
        (tmp_path / "a" / "file").touch()

        assert list(Directory(tmp_path).sizes()) == ["a/file"]

    def test_a_search_keeps_no_file_that_nobody_has(self, tmp_path, calls):
        """A million files are searched one after the other, and not held."""
        for number in range(50):
            (tmp_path / f"{number}.txt").write_text("needle\n")
        folder = Directory(tmp_path)

        assert len(calls(folder, "grep", "needle", 0, None, 1, 1, 100)["hits"]) == 50
        assert len(folder._files) == 0
        kept = folder.file("1.txt")
        assert folder.file("1.txt") is kept


@posix
class TestWhatBecameOfAFile:
    """Between listing, opening and reading a file may become anything."""

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
    def test_it_is_an_error_and_no_wait(self, tmp_path, calls, kind, opened, operation):
        """Before it was opened for the first time, and after."""
        root = tmp_path / "root"
        root.mkdir()
        (root / "a.txt").write_text("text\n")
        folder = Directory(root)
        folder.sizes()
        text = folder.file("a.txt") if opened else None
        self.become(root / "a.txt", kind, tmp_path)

        asked = {
            ("read", False): (folder, "file", "a.txt"),
            ("read", True): (text, "read", 0, 9),
            ("grep", False): (folder, "grep", "secret", 0, None, 0, 0, 9),
            ("grep", True): (text, "grep", "secret", 0, 0, 0, 0, 9),
        }
        with pytest.raises(TextChangedError):
            calls(*asked[operation, opened])

    def test_a_folder_that_became_a_link_leads_nowhere(self, tmp_path, calls):
        """Also if it is replaced while it is listed, or between two looks at it."""
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
        """No more is read than there was, and then it is an error."""
        file = tmp_path / "a.txt"
        file.write_text("x" * 1000)
        text = TextFile(file)
        assert calls(text, "read", 0, 10) == "x" * 10

        for content in ("x" * 2000, "x"):
            file.write_text(content)
            with pytest.raises(TextChangedError):
                calls(text, "length")

    @pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
    def test_what_is_no_file_is_refused_at_once(self, tmp_path, kind):
        """Where the user himself names it, too."""
        path = tmp_path / "a"
        path.touch()
        self.become(path, kind, tmp_path)

        with pytest.raises(OSError, match=r"no regular file|Is a directory"):
            TextFile(path)


def test_a_second_session_waits_no_longer_than_its_own_time(tmp_path):
    """Another may be listing the same folder, or waiting for the next piece of the same stream."""
    (tmp_path / "a").touch()
    folder = Directory(tmp_path)

    with folder._lock, pytest.raises(TimeoutError):
        folder.sizes(Deadline(0.1, "Limits.search_seconds"))
