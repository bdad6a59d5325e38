"""Untrusted patterns: parsed as Git parses them, and matched at a bounded cost."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sandbox_runtime.texts.directory import Directory
from sandbox_runtime.texts.globs import (
    MAX_PATTERN_CHARS,
    Glob,
    IgnoreRules,
    glob_matcher,
    path_bytes,
)

# Each would be endless for a backtracking matcher, which needs 30 times as long for each further star.
HOSTILE = [
    "a*" * 400 + "b",
    "*a" * 400 + "b",
    "?*" * 400 + "b",
    "[a-z]*" * 160 + "!",
    "**/a" * 240 + "/b",
    "**/*a" * 190 + "/b",
    "a/**/" * 190 + "b",
    "[!b]*[!c]*" * 90 + "b",
    "**" * 480 + "b",
    "/" * 999,
    "[" * 1000,
    "[[:alpha:]" * 90,
    "\\" * 999,
]

TREE = [
    *("a", "b", "ab", "aa", "abc", "b-c", "[a]", "a b", "é", "b]", "a\\b", " s", "s ", "#c", "!d"),
    *("d1/a", "d1/b", "d1/d2/a", "d1/d2/ab", "d1/d2/a.o", "abd/a", "abd/x/b", "éd/x", "a.o", "*"),
    *("x/y/z/a", "x/y/b", "x/a/b/c", "x/a.o", "-", "c/^", "c/!", "?"),
]

PARTS = [
    *("a", "b", "x", "y", "d1", "d2", "c", "é", ".o", "abd", "-", "!", "#", " ", "\t"),
    *("/", "/", "/", "*", "*", "**", "**/", "/**", "***", "?", "[ab]", "[!a]", "[^b]", "[a-c]"),
    *("[]a]", "[[:alpha:]]", "[[:x:]]", "[", "]", "\\", "[\\]a]", "[a-]", "[--a]", "[[:", "[*]"),
    *("[/]", "[b-\\]]", "\\ ", "\0"),
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A Git repository with files of unusual names, and a folder for more rules."""
    if shutil.which("git") is None:
        pytest.skip("needs Git to compare with")
    root = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", root], check=True)
    for path in TREE:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")
    return root


def rules_of(lines):
    return "\n".join(("!" if negative else "") + "".join(parts) for negative, parts in lines)


RULES = st.lists(
    st.tuples(
        st.sampled_from([False, False, False, True]), st.lists(st.sampled_from(PARTS), max_size=6)
    ),
    max_size=5,
).map(rules_of)


class TestAsGit:
    @settings(
        deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(RULES, RULES, st.sampled_from(["\n", "\r\n"]))
    @example("", "**/****/a", "\n")
    @example("**/***/**/a/b", "", "\n")
    def test_git_lists_the_same_files(self, repository, above, below, end):
        """For any rules, also nested ones, the list equals Git's."""
        (repository / ".gitignore").write_bytes(above.replace("\n", end).encode())
        (repository / "x" / ".gitignore").write_bytes(below.encode())
        seen = subprocess.run(
            ["git", "ls-files", "--others", "--exclude-per-directory=.gitignore", "-z"],
            cwd=repository,
            env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"},
            capture_output=True,
            check=True,
        ).stdout.decode()

        hidden = {".gitignore", "x/.gitignore", ""}
        assert list(Directory(repository).sizes()) == sorted(set(seen.split("\0")) - hidden)

    def test_check_ignore_agrees(self, repository):
        """`git check-ignore` agrees for each path, with typical rules."""
        (repository / ".gitignore").write_text(
            "*.o\n!x/a.o\n/d1/**/a\nabd/\n[!a-z]*\n**/z\n\\#c\nb]\ntrailing \n"
        )
        (repository / "x" / ".gitignore").write_text("b\n!/y/b\n")
        listed = subprocess.run(
            ["git", "check-ignore", "--no-index", "--stdin", "-z"],
            cwd=repository,
            input="\0".join(TREE).encode(),
            capture_output=True,
        ).stdout.decode()

        assert set(TREE) - set(Directory(repository).sizes()) == set(listed.split("\0")) - {""}

    def test_a_byte_order_mark_is_no_rule(self):
        """A byte order mark, which some editors write, is not part of the first rule."""
        rules = IgnoreRules(b"\xef\xbb\xbfbuild\r\n")

        assert rules.verdict("build", is_folder=True, check=lambda: None)


class TestGlobs:
    @pytest.mark.parametrize(
        ("pattern", "fitting", "others"),
        [
            ("*.py", ["a.py", "src/a.py"], ["a.pyc", "a.py/b"]),
            ("src/*.py", ["src/a.py"], ["a.py", "src/deep/a.py"]),
            ("src/**/*.py", ["src/a.py", "src/deep/er/a.py"], ["a.py"]),
            ("./src/?.py", ["src/é.py", "src/a.py"], ["src/ab.py"]),
            ("**", ["a", "a/b"], []),
            ("**/*", ["a", "a/b"], []),
            ("[!a]*", ["b", "a/b"], ["a"]),
            ("docs/**", ["docs/a", "docs/a/b"], ["doc", "a/docs/b"]),
        ],
    )
    def test_globs_match_paths(self, pattern, fitting, others):
        """A pattern without a slash matches names in any folder, by characters rather than bytes."""
        fits = glob_matcher(pattern)

        assert [path for path in [*fitting, *others] if fits(path)] == fitting

    @given(st.text("ab*?/", max_size=12), st.text("ab/", max_size=12))
    def test_stars_and_question_marks_are_those_of_a_regular_expression(self, pattern, path):
        """Without `**`, a glob matches the same paths as the equivalent regular expression."""
        pattern = re.sub(r"\*+", "*", pattern)
        written = re.escape(pattern).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")

        assert Glob(pattern).fits(path) == bool(re.fullmatch(written, path))


class TestCost:
    @pytest.mark.parametrize("pattern", HOSTILE)
    def test_a_hostile_pattern_costs_no_more_than_an_honest_one(self, pattern):
        """Any accepted pattern matches 4,000 characters of path in less than a second of CPU time."""
        rules = IgnoreRules(f"{pattern}\n/{pattern}\n".encode())
        started = time.thread_time()

        for path in ("a" * 4000, "a/" * 2000 + "a", "ab" * 2000, "é" * 1000):
            rules.verdict(path_bytes(path), is_folder=True, check=lambda: None)
            Glob(pattern).fits(path)

        assert time.thread_time() - started < 5

    def test_an_overlong_pattern_is_refused(self):
        """An overlong glob is refused; an overlong rule is skipped and counted."""
        long = "x" * (MAX_PATTERN_CHARS + 1)

        with pytest.raises(ValueError, match=r"has 1,001 characters; at most 1,000 are allowed"):
            Glob(long)
        rules = IgnoreRules(f"{long}\na\n".encode())
        assert (len(rules), rules.skipped) == (1, 1)

    def test_many_rules_without_wildcards_are_looked_up(self):
        """Names, paths and suffixes are looked up in dicts, at a cost independent of their number."""
        lines = [f"name{n}\n/path/{n}\n*.end{n}\n" for n in range(3000)]
        rules = IgnoreRules("".join(lines).encode())

        def check():
            raise AssertionError("a rule was compared")

        assert rules.verdict("a/name2999", is_folder=False, check=check)
        assert rules.verdict("path/7", is_folder=False, check=check)
        assert rules.verdict("b/x.end12", is_folder=False, check=check)
        assert rules.verdict("other", is_folder=False, check=check) is None
