"""Lazy inputs and exceptions in other processes: pools, queues, Ray."""

from __future__ import annotations

import copy
import inspect
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import dspy_rlm.errors
import sandbox_runtime.errors
from dspy_rlm.dspy_bridge.traces import RunDiedError, RunExhaustedDiedError
from dspy_rlm.reports.report import RunReport, Step
from sandbox_runtime import Directory, TextChangedError, TextFile, TextStream

REPORT = RunReport(
    status="failed",
    stopped_by="max_cost",
    steps=(Step("r", "1 / 0", "error"),),
    llm_calls=3,
    seconds=1.0,
)

# The attributes that constructors ask for, and that callers set.
ATTRIBUTES: dict[str, Any] = {
    "run": REPORT, "limit": "max_cost", "path": "file", "shortcomings": ("no Landlock",), "reason": "killed",
    "output": "printed", "server": "mine", "signature": None,
}  # fmt: skip

CLASSES = [
    one
    for module in (dspy_rlm.errors, sandbox_runtime.errors)
    for one in vars(module).values()
    if inspect.isclass(one) and issubclass(one, Exception) and one.__module__ == module.__name__
] + [RunDiedError, RunExhaustedDiedError]


def example(cls: type[Exception]) -> Exception:
    """Returns an exception of a class, with all that its constructor asks for."""
    parameters = inspect.signature(cls.__init__).parameters
    error = cls("a message", **{n: v for n, v in ATTRIBUTES.items() if n in parameters})
    error.added = [1]  # type: ignore[attr-defined]
    return error


def raising(error: Exception) -> None:
    """Raises the exception, in another process."""
    raise error


def first_line(text: TextFile) -> str:
    """Reads from a lazy text, in another process."""
    return text.read(0, 5)


def listed(files: Directory) -> list[str]:
    """Lists a folder, in another process."""
    return list(files)


@pytest.fixture(scope="module")
def elsewhere():
    """A process that was spawned, so that it shares nothing with this one."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


class TestExceptions:
    def test_each_class_arrives_from_a_pool(self, elsewhere):
        """An exception keeps its class, message and attributes; the pool is not broken by one."""
        for cls in CLASSES:
            sent = example(cls)
            arrived = elsewhere.submit(raising, sent).exception()

            assert type(arrived) is cls
            assert arrived.args == sent.args == ("a message",)
            kept = {name: value for name, value in vars(arrived).items() if name != "__notes__"}
            assert kept == vars(sent)
            assert str(arrived) == str(sent)

    def test_there_are_all(self):
        """The classes are found by themselves, so that a new one is tested too."""
        assert len(CLASSES) > 30


class TestLazyInputs:
    def test_a_file_is_read_where_it_arrives(self, elsewhere, tmp_path):
        """Its path, encoding, size and time are sent, not its text."""
        path = tmp_path / "text.txt"
        path.write_bytes("héllo wörld".encode("latin-1"))
        text = TextFile(path, encoding="latin-1")

        assert elsewhere.submit(first_line, text).result() == "héllo"
        assert len(pickle.dumps(text)) < 500

    @pytest.mark.parametrize("change", ["size", "time", "gone"])
    def test_a_file_that_has_changed_is_refused(self, tmp_path, change):
        """The error says how it differs."""
        path = tmp_path / "text.txt"
        path.write_text("hello")
        sent = pickle.dumps(TextFile(path))
        match change:
            case "size":
                path.write_text("hello world")
            case "time":
                os.utime(path, (1, 1))
            case "gone":
                path.unlink()

        said = {
            "size": "it has 11 bytes and had 5.",
            "time": "written at another time",
            "gone": "does not exist here",
        }
        with pytest.raises(TextChangedError, match=said[change]):
            pickle.loads(sent)

    def test_a_folder_is_listed_where_it_arrives(self, elsewhere, tmp_path):
        """With its pattern. One that was listed must be the same there."""
        (tmp_path / "a.py").write_text("1")
        (tmp_path / "b.txt").write_text("2")
        files = Directory(tmp_path, "*.py")
        unlisted = pickle.dumps(files)

        assert elsewhere.submit(listed, files).result() == list(files) == ["a.py"]
        sent = pickle.dumps(files)
        assert list(pickle.loads(pickle.dumps(pickle.loads(sent)))) == ["a.py"]
        (tmp_path / "c.py").write_text("3")
        assert list(pickle.loads(unlisted)) == ["a.py", "c.py"]
        with pytest.raises(TextChangedError, match="has other files"):
            list(pickle.loads(pickle.dumps(pickle.loads(sent))))

    def test_a_file_of_a_folder(self, tmp_path):
        """It keeps its name below the folder."""
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "a.txt").write_text("hello")
        file = Directory(tmp_path).file("sub/a.txt")

        arrived = pickle.loads(pickle.dumps(file))

        assert (arrived.name, arrived.read(0, 5)) == ("sub/a.txt", "hello")

    def test_copies(self, tmp_path):
        """A copy reads the same file; DSPy copies the inputs of demonstrations."""
        path = Path(tmp_path / "text.txt")
        path.write_text("hello")

        assert copy.deepcopy(TextFile(path)).read(0, 5) == "hello"

    def test_a_stream_says_why_not(self):
        """Its pieces are read once."""
        with pytest.raises(TypeError, match=r"TextStream cannot be sent .* pass TextFile"):
            pickle.dumps(TextStream(["a"]))
