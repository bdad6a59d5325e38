"""Mistakes of users: each is found before anything is paid, and the message says what to write instead."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import dspy
import pydantic
import pytest

import dspy_rlm
from dspy_rlm import RLM, InputError, Limits, SignatureError
from dspy_rlm.testing import Action, PolicyServer, scripted


class Answer(pydantic.BaseModel):
    text: str


class TestConstructor:
    @pytest.mark.parametrize(
        ("arguments", "advice"),
        [
            ({"sub_lm": [dspy.LM("openai/x")]}, "sub_lm must be a dspy.LM"),
            ({"sub_lm": 5}, "a dict of LMs by name"),
            ({"limits": {"cell_seconds": 3}}, "limits=dspy_rlm.Limits(cell_seconds=3)"),
            ({"limits": 3}, "limits must be a dspy_rlm.Limits, not 3"),
            ({"pool": 4}, "pool=dspy_rlm.Pool(max_sessions=4)"),
            ({"pool": Limits()}, "pool must be a dspy_rlm.Pool"),
            ({"types": [int]}, "dspy_rlm.HandleType(int)"),
            ({"types": int}, "types must be a list of rules"),
            ({"max_output_chars": 0}, "max_output_chars must be a whole number, 1 or more, not 0"),
            ({"max_output_chars": "10k"}, "not '10k'"),
            ({"max_output_chars": True}, "max_output_chars must be"),
            ({"max_iterations": 3, "max_iters": 5}, "two names of one limit"),
        ],
    )
    def test_a_wrong_argument_is_named_as_the_user_wrote_it(self, arguments, advice):
        """The error is a SignatureError that names the argument and what to write instead."""
        with pytest.raises(SignatureError) as caught:
            RLM("a -> b", **arguments)

        assert advice in str(caught.value)

    @pytest.mark.parametrize(
        ("signature", "advice"),
        [
            (dspy.Predict("a -> b"), "not a module (Predict). Pass its signature."),
            (Answer, "'text -> result: Answer'"),
            (5, "Write it like"),
            (None, "Write it like"),
            ("logs question answer", "it has no '->'"),
            ("", "Write it like"),
            ("a -> b -> c", "it has 2 '->', not one"),
            ("logs -> answer: strr", "Did you mean 'str'?"),
            ("logs -> answer: Frobnicator", "the type 'Frobnicator' is unknown. A type is"),
            ("logs, logs -> answer", "has the field 'logs' twice"),
            ("logs -> answer, answer", "has the field 'answer' twice"),
            ("my-log -> answer", "Names are Python identifiers"),
        ],
    )
    def test_an_unusable_signature_is_explained(self, signature, advice):
        """The error says what is wrong with the signature, and shows one that works."""
        with pytest.raises(SignatureError) as caught:
            RLM(signature)

        assert advice in str(caught.value)

    def test_a_type_without_a_schema_is_to_be_left_off(self):
        """Pydantic's own advice, a configuration of a model, cannot be followed in a string signature."""

        class Foreign:
            pass

        assert Foreign
        with pytest.raises(SignatureError, match="Leave the type of that field off"):
            RLM("table: Foreign, question -> answer")

    @pytest.mark.parametrize("name", ["lm", "model", "llm"])
    def test_the_lm_is_not_an_argument_of_the_constructor(self, name):
        """The error names the places where the LM can be set."""
        arguments: Any = {name: dspy.LM("openai/x")}

        with pytest.raises(TypeError, match=r"rlm\.set_lm\(lm\)"):
            RLM("a -> b", **arguments)

    def test_a_misspelt_argument_is_recognised(self):
        """The error suggests the argument with the closest name."""
        arguments: Any = {"max_iteration": 3}

        with pytest.raises(TypeError, match="Did you mean max_iterations="):
            RLM("a -> b", **arguments)

    def test_the_same_number_under_both_names_is_accepted(self):
        """Only a contradiction is refused."""
        assert RLM("a -> b", max_iterations=3, max_iters=3).max_iterations == 3
        assert RLM("a -> b", max_iters=7).max_iterations == 7

    def test_an_input_that_hides_a_builtin_is_warned_of(self):
        """The warning names the line of the caller; usual names of inputs cause none."""
        with pytest.warns(UserWarning, match="hides Python's list in the REPL") as caught:
            RLM("list -> answer")
        assert [one.filename for one in caught] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            RLM("input, id, format, text -> answer")


class TestRepr:
    def test_it_has_the_fields_without_the_prompt(self):
        """The repr is one short line, also inside another module: DSPy prints it with each failure."""
        rlm = RLM("logs, n: int -> answer: list[str]")

        class Program(dspy.Module):
            def __init__(self) -> None:
                super().__init__()
                self.rlm = rlm

        assert repr(rlm) == "RLM('logs: str, n: int -> answer: list[str]')"
        assert len(repr(Program())) < 200

    def test_it_is_short_for_a_long_signature(self):
        """A signature of many fields is shortened in the middle."""
        rlm = RLM(f"{', '.join(f'field_{n}' for n in range(200))} -> answer")

        assert len(repr(rlm)) < 500


class TestCall:
    @pytest.mark.parametrize(
        ("arguments", "advice"),
        [
            (("x",), "rlm(logs=..., n=...)"),
            (("x", "y"), "rlm(logs=..., n=...)"),
            ((dspy.Example(logs="x", n="y").with_inputs("logs", "n"),), "rlm(**example.inputs())"),
            (({"logs": "x"},), "Inputs go by name"),
        ],
    )
    def test_inputs_go_by_name(self, arguments, advice, play):
        """A positional input is refused with the call that works, as `dspy.Predict` refuses it."""
        rlm, server = play("logs, n -> b")

        with pytest.raises(InputError) as caught:
            rlm(*arguments)
        with pytest.raises(ValueError, match="Positional arguments are not allowed"):
            dspy.Predict("logs, n -> b")(*arguments)

        assert advice in str(caught.value)
        assert server.requests == []

    @pytest.mark.parametrize(
        ("signature", "value", "advice"),
        [
            ("n: str -> b", Path("/tmp/log.txt"), "TextFile(path)"),
            ("n: str | None -> b", Path("/tmp/log.txt"), "TextFile(path)"),
            ("n: str -> b", io.StringIO("text"), "file.read()"),
            ("n: str -> b", iter(["a", "b"]), "TextStream(pieces)"),
            ("n -> b", io.TextIOWrapper(io.BytesIO(b"text")), "file.read()"),
            ("n -> b", (piece for piece in "ab"), "TextStream(pieces)"),
        ],
    )
    def test_files_and_iterators_are_not_texts(self, signature, value, advice, play):
        """The error names the value to pass instead, before anything is paid."""
        rlm, server = play(signature)

        with pytest.raises(InputError) as caught:
            rlm(n=value)

        assert advice in str(caught.value)
        assert server.requests == []

    def test_a_name_in_place_of_the_lm_is_recognised(self):
        """`dspy.configure` accepts a name; the error says how to make it an LM."""
        with (
            dspy.context(lm="openai/gpt-5"),
            pytest.raises(dspy.LMNotConfiguredError, match=r"dspy\.LM\('openai/gpt-5'\)"),
        ):
            RLM("a -> b")(a="x")


class TestOptionsOfPredict:
    """`lm=` and `config=` work in a call as they do in one of `dspy.Predict`."""

    def test_one_call_can_have_another_lm(self, play):
        """`lm=` writes the code of that run alone."""
        rlm, _ = play("a -> b", "SUBMIT('the usual')")
        other = PolicyServer({"other": scripted(Action("", "SUBMIT('another')"))})

        with other:
            assert rlm(a="x", lm=other.lm("other")).b == "another"
        assert rlm(a="x").b == "the usual"

    def test_one_call_can_have_options_of_its_own(self, play):
        """`config=` goes to every call of the root LM, also the extraction."""
        rlm, server = play("a -> b", "print(1)", extracted={"b": "c"}, max_iterations=1)

        assert rlm(a="x", config={"temperature": 0.25}).b == "c"
        options = [exchange.request.raw["temperature"] for exchange in server.requests]
        assert options == [0.25, 0.25]

    def test_an_input_of_that_name_comes_first(self, play):
        """A signature may have an input called `config`, whose value is then no option."""
        rlm, _ = play("config -> b", "SUBMIT(config['x'])")

        assert rlm(config={"x": "y"}).b == "y"

    @pytest.mark.parametrize("option", [{"lm": "openai/x"}, {"config": "hot"}])
    def test_another_value_is_refused(self, option, play):
        """A value that is no option is refused before the run starts."""
        rlm, _ = play("a -> b")

        with pytest.raises(InputError, match="must be a d"):
            rlm(a="x", **option)


def test_a_directory_can_be_listed(tmp_path):
    """A user sees the files that cells can read: iterate, count, look for a path."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "sub" / "b.txt").write_text("b")
    (tmp_path / ".hidden").write_text("c")

    directory = dspy_rlm.Directory(tmp_path)

    assert list(directory) == ["a.txt", "sub/b.txt"]
    assert len(directory) == 2
    assert "sub/b.txt" in directory
    assert "c" not in directory


def test_a_missing_folder_is_told_apart_from_a_file(tmp_path):
    """The error says whether the path is missing or a file, which is an input of its own kind."""
    (tmp_path / "a.txt").write_text("a")

    with pytest.raises(FileNotFoundError, match="There is no folder"):
        dspy_rlm.Directory(tmp_path / "none")
    with pytest.raises(NotADirectoryError, match="TextFile"):
        dspy_rlm.Directory(tmp_path / "a.txt")


def test_a_stream_of_bytes_is_refused_where_it_is_made():
    """The error comes from the constructor, not from a cell that reads the stream."""
    pieces: Any = [b"bytes"]

    with pytest.raises(TypeError, match="not of bytes"):
        dspy_rlm.TextStream(pieces)
