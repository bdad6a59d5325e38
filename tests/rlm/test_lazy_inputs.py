"""Inputs that stay on the host: files, streams and directories under a whole RLM."""

from __future__ import annotations

import dspy
import pydantic
import pytest

from dspy_rlm import Directory, InputError, TextFile, TextStream
from dspy_rlm.prompts.variables import describe
from dspy_rlm.values.conversion import type_rules
from sandbox_runtime import TextChangedError


class Audit(dspy.Signature):
    """Find who broke the build."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    log: TextFile = dspy.InputField()
    answer: str = dspy.OutputField()


@pytest.fixture
def log(tmp_path):
    """A log whose answer is far from its ends."""
    file = tmp_path / "build.log"
    with file.open("w") as out:
        out.writelines(f"line {n} all is well\n" for n in range(50_000))
        out.write("ERROR broken by eve\n")
        out.writelines(f"line {n} all is well\n" for n in range(50_000))
    return file


FIND = "hit = log.grep('^ERROR .* by (.*)')[0]\nprint(hit)", "SUBMIT(hit.line.split()[-1])"


class TestLazyInputs:
    @pytest.mark.parametrize("signature", ["log -> answer", "log: str -> answer: str", Audit])
    def test_a_file_is_an_input_under_any_sensible_type(self, play, log, signature):
        """A file may be declared without a type, as `str`, or as its own class; it is searched in place."""
        rlm, server = play(signature, *FIND)
        result = rlm(log=TextFile(log))

        assert result.answer == "eve"
        assert result.trajectory[0]["output"] == "build.log:50001: ERROR broken by eve"
        prompt = server.requests[0].prompt
        assert "Type: lazy text (acts like a str" in prompt
        assert f"Size: {log.stat().st_size:,} bytes" in prompt
        assert len(prompt) < 20_000

    def test_a_stream_and_a_directory_are_inputs(self, play, log, tmp_path):
        """A generator is read once, a directory listed once."""
        rlm, _ = play(
            "rows, folder -> n: int, path: str",
            "SUBMIT(sum(1 for _ in rows), folder.grep('ERROR')[0].path)",
        )
        result = rlm(rows=TextStream(f"row {n}\n" for n in range(1000)), folder=Directory(tmp_path))

        assert (result.n, result.path) == (1000, "build.log")

    def test_tools_get_the_very_object(self, play, log):
        """Tools get the identical object, and can use it without the limits of cells."""
        arguments = []

        def inspect(text: object) -> str:
            """Looks at a text."""
            arguments.append(text)
            return text.name

        text = TextFile(log)
        rlm, _ = play("log -> answer", "SUBMIT(inspect(log))", tools=[inspect])

        assert rlm(log=text).answer == "build.log"
        assert arguments[0] is text

    def test_a_file_that_changed_before_the_run_ends_it_before_it_costs(self, play, log):
        """A changed file ends the run before an LM is called."""
        text = TextFile(log)
        log.write_text("new")
        rlm, server = play("log -> answer", "SUBMIT('x')")

        with pytest.raises(TextChangedError, match="has changed since it became an input"):
            rlm(log=text)
        assert not server.requests

    def test_a_folder_that_cannot_be_listed_ends_it_before_it_costs(self, play, tmp_path):
        """An unreadable folder is an error with advice, not an empty directory."""
        (tmp_path / "texts").mkdir()
        folder = Directory(tmp_path / "texts")
        (tmp_path / "texts").rmdir()
        rlm, server = play("folder -> answer", "SUBMIT('x')")

        with pytest.raises(InputError) as caught:
            rlm(folder=folder)

        assert str(caught.value) == (
            f"The folder of the input 'folder', {tmp_path / 'texts'}, cannot be listed: "
            "No such file or directory. Grant read access to it, or pass another folder."
        )
        assert not server.requests

    def test_a_file_that_changes_during_the_run_is_an_observation(self, play, log):
        """The LM gets the error, and the run continues."""

        def change() -> str:
            """Writes to the file."""
            log.write_text("new")
            return "done"

        rlm, _ = play("log -> answer", "change()\nlog[:5]", "SUBMIT('told')", tools=[change])
        result = rlm(log=TextFile(log))

        assert "build.log has changed since it became an input" in result.trajectory[0]["output"]
        assert result.answer == "told"

    def test_a_wrong_type_is_refused(self, play, log):
        """A lazy text is refused where a number is declared."""
        rlm, _ = play("n: int -> answer", "SUBMIT('x')")
        with pytest.raises(InputError, match="n: expected int"):
            rlm(n=TextFile(log))


class TestDescriptions:
    def test_of_a_text(self, tmp_path):
        """The description of a lazy text has its kind, size, methods, beginning and end."""
        file = tmp_path / "a.txt"
        file.write_text("begin" + "." * 5000 + "end")

        described = describe("text", TextFile(file), dspy.InputField(), type_rules())

        assert described.render() == (
            "Variable: `text` (access it in your code)\n"
            "Type: lazy text (acts like a str, but stays outside and is read piece by piece: text[a:b], "
            "len(text), `for line in text`, text.lines(first, last), text.find(s), text.count(s), "
            "text.search(regex), text.finditer(regex), text.grep(regex, before=0, after=0, limit=100, "
            "ignore_case=False), text.chunks(size); lines count from 1; `help` has the details)\n"
            "Size: 5,008 bytes\n"
            f"Preview:\n```\nbegin{'.' * 495}\n[... 4,008 bytes not shown ...]\n{'.' * 497}end\n```"
        )

    def test_of_a_directory(self, tmp_path):
        """The description of a directory has its size and its first paths."""
        for n in range(40):
            (tmp_path / f"{n:02}.txt").write_text("x")

        described = describe("folder", Directory(tmp_path), dspy.InputField(), type_rules())

        assert described.size == "40 files, 40 bytes"
        assert described.type_name.startswith("directory of texts, which stay outside: len(d)")
        assert described.preview == "\n".join([*(f"{n:02}.txt" for n in range(30)), "[10 more]"])


@pytest.mark.parametrize("key", ["0", ":20", "-1"])
def test_a_directory_read_by_position_says_how_to_read_it(play, tmp_path, key):
    """A model that takes a directory for a list learns of its paths."""
    (tmp_path / "a.txt").write_text("x")
    rlm, _ = play("d -> a", f"try: d[{key}]\nexcept TypeError as e: SUBMIT(str(e))")

    assert "is read by path" in rlm(d=Directory(tmp_path)).a
