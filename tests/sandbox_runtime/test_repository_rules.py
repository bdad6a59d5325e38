"""The ignore rules above a folder, and the entries that a listing leaves out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox_runtime import Directory


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A Git repository with rules at several places."""
    for path, text in {
        ".git/info/exclude": "*.tmp\n/src/local.txt\n",
        ".gitignore": "*.log\n/src/deep/out\n!keep.log\n",
        "src/.gitignore": "*.csv\n!kept.tmp\n",
        "src/a.py": "",
        "src/a.log": "",
        "src/keep.log": "",
        "src/x.tmp": "",
        "src/kept.tmp": "",
        "src/local.txt": "",
        "src/deep/a.csv": "",
        "src/deep/b.txt": "",
        "src/deep/out/c.txt": "",
    }.items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


class TestRulesAbove:
    def test_a_folder_of_a_repository_has_the_rules_of_all_of_it(self, repository):
        """Rules from the root down apply to a subfolder, then `.git/info/exclude`; the nearest decides, as Git does."""
        assert list(Directory(repository / "src")) == ["a.py", "deep/b.txt", "keep.log", "kept.tmp"]
        assert list(Directory(repository / "src/deep")) == ["b.txt"]

    def test_git_agrees(self, repository):
        """The list is that of `git ls-files`."""
        import shutil

        shutil.rmtree(repository / ".git")
        subprocess.run(["git", "init", "-q", str(repository)], check=True)
        (repository / ".git/info/exclude").write_text("*.tmp\n/src/local.txt\n")
        command = [
            "git",
            "-C",
            str(repository / "src"),
            "ls-files",
            "-o",
            "--exclude-per-directory=.gitignore",
        ]
        command += ["--exclude-from", str(repository / ".git/info/exclude")]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

        assert list(Directory(repository / "src")) == sorted(
            p for p in listed if not p.startswith(".")
        )

    def test_a_worktree_has_the_rules_of_its_repository(self, repository, tmp_path):
        """In a worktree `.git` is a file that names the folder."""
        tree = tmp_path / "tree"
        tree.mkdir()
        git = repository / ".git/worktrees/tree"
        git.mkdir(parents=True)
        (git / "commondir").write_text("../..\n")
        (tree / ".git").write_text(f"gitdir: {git}\n")
        for name in ("a.tmp", "b.txt"):
            (tree / name).touch()

        assert list(Directory(tree)) == ["b.txt"]

    def test_a_named_folder_is_listed_even_if_it_is_ignored(self, repository):
        """A rule that names the folder itself does not empty it."""
        assert list(Directory(repository / "src/deep/out")) == ["c.txt"]

    def test_without_gitignore(self, repository):
        """`gitignore=False` ignores all of them."""
        assert "a.log" in Directory(repository / "src", gitignore=False)

    @pytest.mark.parametrize(
        "content", ["gitdir: \0", "gitdir: /nowhere", "nonsense", "gitdir:" + "x" * 9000]
    )
    def test_a_broken_link_to_the_repository(self, tmp_path, content):
        """A `.git` file that names nothing leaves the other rules in force."""
        (tmp_path / ".git").write_text(content)
        (tmp_path / ".gitignore").write_text("*.log\n")
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub/a.log").touch()
        (tmp_path / "sub/b").touch()

        assert list(Directory(tmp_path / "sub")) == ["b"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_what_a_listing_leaves_out(repository):
    """Each entry that was passed over has a reason and, for a file, its size; folders are not looked into."""
    (repository / ".env").write_text("KEY")
    (repository / "link").symlink_to("src")
    os.mkfifo(repository / "pipe")
    folder = Directory(repository)

    left = {(item.path, item.reason, item.size_bytes) for item in folder.left_out()}
    assert left >= {
        (".env", "hidden", 3),
        (".git", "hidden", 0),
        ("link", "link", 0),
        ("pipe", "special", 0),
        ("src/a.log", "ignored", 0),
        ("src/deep/out", "ignored", 0),
    }
    assert folder.size.startswith("4 files")
