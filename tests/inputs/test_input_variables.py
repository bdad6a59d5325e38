"""The variables of several inputs: which one gets what, and under which name."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from dspy_rlm.errors import InputError, SignatureError
from dspy_rlm.inputs.bounds import InputBounds
from dspy_rlm.inputs.paths import check_paths, named
from dspy_rlm.inputs.variables import group, load_variables
from sandbox_runtime import TextStream


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with texts and tables, which is the current one."""
    for name, text in {
        "a.txt": "A",
        "b.txt": "B",
        "sub/c.txt": "C",
        "x.csv": "n\n1\n",
        "y.csv": "n\n2\n",
        "k=v.txt": "odd",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def values(*arguments: str, fields: dict[str, bool] | None = None) -> dict[str, object]:
    """Returns the values by name."""
    return {one.name: one.value for one in load_variables(arguments, fields, InputBounds())}


def shape(*arguments: str, fields: list[str] | None = None) -> dict[str, list[str]]:
    """Returns which arguments each variable gets."""
    return {one.name: [str(item) for item in one.arguments] for one in group(arguments, fields)}


class TestNames:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["a.txt"], {"text": "A"}),
            (["a.txt", "sub/c.txt"], {"files": {"a.txt": "A", "sub/c.txt": "C"}}),
            (["sub"], {"files": {"c.txt": "C"}}),
            (["sub/*.txt"], {"files": {"c.txt": "C"}}),
            (["x.csv"], {"table": [{"n": 1}]}),
            (["x.csv", "y.csv"], {"tables": {"x.csv": [{"n": 1}], "y.csv": [{"n": 2}]}}),
            (["x.csv", "a.txt"], {"files": {"a.txt": "A", "x.csv": "n\n1\n"}}),
            (["old=a.txt", "new=b.txt"], {"old": "A", "new": "B"}),
            (["a.txt", "prices=x.csv"], {"text": "A", "prices": [{"n": 1}]}),
            (["k=v.txt"], {"text": "odd"}),
            (["docs=a.txt", "docs=b.txt"], {"docs": {"a.txt": "A", "b.txt": "B"}}),
            (["sub", "sub/c.txt", "a.txt"], {"files": {"a.txt": "A", "sub/c.txt": "C"}}),
        ],
    )
    def test_without_a_signature(self, folder, arguments, expected):
        """The kind names the variable: one text, several files, a table, several tables; or a name in front of `=`."""
        assert values(*arguments) == expected

    @pytest.mark.parametrize(
        ("arguments", "fields", "expected"),
        [
            (["a.txt", "b.txt"], {"docs": False}, {"docs": {"a.txt": "A", "b.txt": "B"}}),
            (["a.txt", "b.txt"], {"old": False, "new": False}, {"old": "A", "new": "B"}),
            (["new=a.txt", "b.txt"], {"old": False, "new": False}, {"old": "B", "new": "A"}),
            (["x.csv"], {"data": True}, {"data": "n\n1\n"}),
            (["x.csv", "y.csv"], {"data": True}, {"data": {"x.csv": "n\n1\n", "y.csv": "n\n2\n"}}),
            (["new=x.csv", "a.txt", "sub"], {"old": False, "new": False}, None),
        ],
    )
    def test_with_a_signature(self, folder, arguments, fields, expected):
        """Its fields are filled in order, or by name; one field gets all. A field that is declared as text gets text."""
        if expected is None:
            expected = {"old": {"a.txt": "A", "sub/c.txt": "C"}, "new": [{"n": 1}]}
        assert values(*arguments, fields=fields) == expected

    @pytest.mark.parametrize(
        ("arguments", "fields", "reason"),
        [
            (["a", "b", "c"], ["x", "y"], "needs 2 more inputs .'x', 'y'., and there are 3"),
            (["z=a"], ["x"], "no input 'z'"),
            (["x=a", "b"], ["x"], "All inputs of the signature are named"),
            (["x=a"], ["x", "y"], "needs 1 more inputs"),
        ],
    )
    def test_what_does_not_fit(self, folder, arguments, fields, reason):
        """The error says what is missing or left over, and how to name an input."""
        with pytest.raises(SignatureError, match=reason):
            shape(*arguments, fields=fields)

    def test_two_of_one_name(self, folder):
        """Without a signature, a name in front of `=` may not be that of the others."""
        with pytest.raises(SignatureError, match="Two inputs are called 'text'"):
            values("a.txt", "text=b.txt")

    @pytest.mark.parametrize(
        ("argument", "name"),
        [
            ("a=b", "a"),
            ("https://x/?a=b", ""),
            ("a/b=c", ""),
            ("=b", ""),
            ("a=", ""),
            ("k=v.txt", ""),
        ],
    )
    def test_names_in_arguments(self, folder, argument, name):
        """A name is an identifier in front of `=`; a path that exists is a path."""
        assert named(argument)[0] == name


class TestChecks:
    def test_what_needs_no_reading_is_found_first(self, folder):
        """A missing path is found at once; addresses, patterns and stdin are left for later."""
        check_paths(["a.txt", "-", "https://example.com/x", "*.nothing", "docs=a.txt"])
        with pytest.raises(InputError, match=r"Cannot read nothing\.txt: there is no such file"):
            check_paths(["docs=nothing.txt"])

    def test_a_path_that_is_none(self, folder):
        """A NUL byte in an argument is an error of the input."""
        with pytest.raises(InputError, match="no such file or folder"):
            values("a\0b")


class Stdin:
    """A stdin with bytes, as a pipe has them."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)
        self.closed = False

    def isatty(self) -> bool:
        """Returns False."""
        return False


class TestStdin:
    @pytest.mark.parametrize(
        ("data", "value"),
        [
            (b"hello\r\n", "hello\n"),
            ("größer".encode("utf-16"), "größer"),
            (b"<!doctype html><script>x</script><p>Hi</p>", "Hi\n"),
        ],
    )
    def test_it_is_read_as_a_file(self, monkeypatch, data, value):
        """The content says what it is."""
        monkeypatch.setattr(sys, "stdin", Stdin(data))

        assert values("-") == {"text": value}

    def test_a_long_text_is_read_as_far_as_needed(self, monkeypatch):
        """Beyond the bound, it is a stream, of which the rest is not read yet."""
        stdin = Stdin("größer\n".encode() * 1_000_000)
        monkeypatch.setattr(sys, "stdin", stdin)
        (variable,) = load_variables(["-"], None, InputBounds(lazy_bytes=1000))

        assert isinstance(variable.value, TextStream)
        assert stdin.buffer.tell() < 3_000_000
        assert variable.value.read(0, 7) == "größer\n"
        assert variable.value.length() == 7_000_000
        assert "read as far as it is needed" in variable.notes[0]

    def test_what_it_cannot_be(self, monkeypatch):
        """Nothing, nowhere, and twice are errors."""
        for stdin, reason in ((Stdin(b""), "it is empty"), (None, "it is closed")):
            monkeypatch.setattr(sys, "stdin", stdin)
            with pytest.raises(InputError, match=reason):
                values("-")
        with pytest.raises(InputError, match="twice"):
            values("-", "-")
