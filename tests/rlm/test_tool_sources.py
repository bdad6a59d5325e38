"""The values that `tools=` takes: names, schemas of MCP and LangChain, and errors that say what to pass instead."""

from __future__ import annotations

import asyncio
import datetime
import re
from types import SimpleNamespace
from typing import Any

import dspy
import pytest
from langchain_like import SCHEMA, Structured
from mcp.types import TextContent

from dspy_rlm import RLM, InputError, SignatureError
from dspy_rlm.dspy_internals import converted_tools
from dspy_rlm.prompts.tool_docs import document, tool_call
from dspy_rlm.signatures.json_schemas import note_of, parameters_of, python_name, type_text
from dspy_rlm.tools.sources import normalize_tools

SHOWN = (
    "move(warehouse: str, amount: int = 1, mode: Literal['fast', 'slow'] = 'fast', "
    "items: list[dict] = [], note: str | None = None, weight: float = ..., from_: str = ...)"
)


def f(x):
    return x


class Task(dspy.Signature):
    """A task."""

    q: str = dspy.InputField()
    a: str = dspy.OutputField()


class Module(dspy.Module):
    def forward(self, q: str) -> str:
        return q


class Toolkit:
    def get_tools(self) -> list[Any]:
        return []


class Session:
    """A client of an MCP server that returns what it was called with."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def call_tool(self, name: str, arguments: Any = None) -> Any:
        self.calls.append((name, arguments))
        return SimpleNamespace(
            content=[TextContent(type="text", text=f"{name} {sorted(arguments)}")],
            is_error=name == "fails",
        )


def mcp_tool(session: Any, name: str = "move", schema: Any = SCHEMA) -> dspy.Tool:
    listed = SimpleNamespace(name=name, description="Moves goods.", inputSchema=schema)
    return dspy.Tool.from_mcp_tool(session, listed)


class TestSchemas:
    """A tool with a JSON schema is shown with its names, types, defaults and descriptions."""

    def test_the_call_and_the_documentation(self):
        """Required arguments come first; what DSPy adds to descriptions is left out."""
        text = document(normalize_tools([mcp_tool(Session())])["move"])

        assert SHOWN in text
        assert "weight: In kg; exclusiveMinimum 0" in text
        assert "items: keys: sku: str, amount: int = 1 (How many.)" in text
        assert "No description" not in text
        assert "(Required)" not in text

    def test_calls_reach_the_server(self, play):
        """By position or by name; a record, a tuple and a date become JSON; None leaves an argument out."""
        session = Session()
        code = (
            "import dataclasses, datetime\n"
            "@dataclasses.dataclass\nclass Item:\n    sku: str\n"
            "move('n', 2)\nmove(warehouse='n', items=(Item('x'),), amount=None, note=None)\n"
            "move('n', note=datetime.date(2024, 1, 2), from_='s')\n"
            "print(move('n', from_='s'), move.batched(['a', 'b']))\n"
            "help(move)"
        )
        rlm, server = play("q -> a", code, "SUBMIT('')", tools=[mcp_tool(session)])
        result = rlm(q="")

        assert [arguments for _, arguments in session.calls[:4]] == [
            {"warehouse": "n", "amount": 2},
            {"warehouse": "n", "items": [{"sku": "x"}], "note": None},
            {"warehouse": "n", "note": str(datetime.date(2024, 1, 2)), "from": "s"},
            {"warehouse": "n", "from": "s"},
        ]
        assert "move ['from', 'warehouse']" in result.trajectory[0]["output"]
        assert SHOWN in result.trajectory[0]["output"]
        assert SHOWN in server.requests[0].request.system

    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            ("move()", f"{SHOWN}: missing a required argument: 'warehouse'"),
            ("move('n', zz=1)", f"{SHOWN}: got an unexpected keyword argument 'zz'"),
            (
                "move('n', amount='3')",
                f"Arg amount is invalid: '3' is not of type 'integer'. The call is {SHOWN}.",
            ),
            ("move(None)", "Arg warehouse is invalid: "),
            ("fails()", "Failed to call a MCP tool: fails []"),
        ],
    )
    def test_wrong_calls(self, play, code, expected):
        """The error of a wrong call names the right one, and that of the server is shown."""
        tools = [
            mcp_tool(Session()),
            mcp_tool(Session(), "fails", {"type": "object", "properties": {}}),
        ]
        rlm, _ = play("q -> a", f"try: {code}\nexcept Exception as e: SUBMIT(str(e))", tools=tools)

        assert expected in asyncio.run(rlm.acall(q="")).a

    def test_a_synchronous_run_with_a_session_of_mcp(self, play):
        """It is refused before any LM is asked: the call would wait for an answer forever."""
        session = type("ClientSession", (Session,), {"__module__": "mcp.client.session"})()
        rlm, server = play("q -> a", "SUBMIT('')", tools=[mcp_tool(session)])

        with pytest.raises(
            InputError, match=re.escape("Call `await rlm.acall(...)` in that loop.")
        ):
            rlm(q="")
        assert server.requests == []
        assert asyncio.run(rlm.acall(q="")).a == ""

    def test_arguments_that_are_stated_by_hand(self, play):
        """A `dspy.Tool` of a function of any arguments has those of its `args`."""

        async def anything(**kwargs):
            return kwargs

        tool = dspy.Tool(
            anything,
            name="look",
            desc="Looks.",
            args={"a": {"type": "string"}, "b": {"default": 2}},
        )
        rlm, _ = play("q -> a: dict", "SUBMIT(look('x', b=3))", tools=[tool])

        assert tool_call(tool) == "look(a: str, b: Any = 2)"
        assert rlm(q="").a == {"a": "x", "b": 3}

    @pytest.mark.parametrize(
        ("schema", "expected"),
        [
            ({"type": "string"}, "str"),
            ({"type": "array"}, "list"),
            (
                {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
                "list[list[float]]",
            ),
            ({"type": "object", "additionalProperties": {"type": "boolean"}}, "dict[str, bool]"),
            ({"type": ["string", "null"]}, "str | None"),
            ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, "int | None"),
            ({"allOf": [{"type": "integer"}]}, "int"),
            ({"enum": ["a", 1]}, "Literal['a', 1]"),
            ({"enum": [str(n) for n in range(99)], "type": "string"}, "str"),
            ({"const": "x"}, "Literal['x']"),
            ({"type": "unknown"}, "Any"),
            ({}, "Any"),
            ("nonsense", "Any"),
        ],
    )
    def test_types(self, schema, expected):
        """JSON's types are shown as Python's."""
        assert type_text(schema) == expected

    def test_a_schema_without_end(self):
        """A schema that contains itself is shown up to a depth, and its note is bounded."""
        schema: dict[str, Any] = {"type": "object", "description": "x" * 5000}
        schema["properties"] = {"again": schema, "list": {"type": "array", "items": schema}}

        assert type_text(schema) == "dict"
        assert len(note_of(schema)) < 1100

    def test_names_that_are_no_python_names(self):
        """They get one that is, without a collision; the tool gets its own."""
        parameters, _, own = parameters_of(
            {"a-b": {}, "a_b": {}, "class": {}, "1st": {}, "$": {}}, {"a-b"}
        )

        assert [p.name for p in parameters] == ["a_b", "a_b_", "class_", "arg_1st", "_"]
        assert own == {"a_b": "a-b", "a_b_": "a_b", "class_": "class", "arg_1st": "1st", "_": "$"}
        assert python_name("  \ufb01nd it ") == "find_it"

    def test_dspys_conversion_is_recognised(self):
        """The functions that DSPy converts are told by their module."""
        assert converted_tools.converter_of(mcp_tool(Session()).func) == converted_tools.MCP
        assert converted_tools.converter_of(f) == ""


class TestLangChain:
    """Tools of LangChain can be passed as they are."""

    def test_a_tool_with_a_dict_schema(self, play):
        """It is called by its own names and types, by position too."""
        tool = Structured("move-it", SCHEMA)
        rlm, _ = play("q -> a: dict", "SUBMIT(move_it('n', 2))", tools=[tool])

        assert "move_it(warehouse: str, amount: int = 1, " in tool_call(rlm.tools["move_it"])
        assert rlm(q="").a == {"warehouse": "n", "amount": 2}

    def test_a_tool_without_a_schema(self, play):
        """It has the arguments that it states itself."""
        tool = Structured("old", None)
        rlm, _ = play("q -> a: dict", "SUBMIT(old('x'))", tools=[tool])

        assert tool_call(rlm.tools["old"]) == "old(tool_input: str)"
        assert rlm(q="").a == {"tool_input": "x"}


class TestNames:
    def test_a_name_that_is_no_python_name(self, play):
        """Code calls it by one that is; prompt and `help` say so."""
        rlm, server = play(
            "q -> a", "help(web_search)", "SUBMIT(web_search(q))", tools={"web-search": f}
        )
        result = rlm(q="v")

        note = "Its own name is 'web-search'; code calls it web_search()."
        assert (result.a, list(rlm.tools)) == ("v", ["web_search"])
        assert note in server.requests[0].request.system
        assert note in result.trajectory[0]["output"]
        assert rlm.deepcopy().tools["web_search"].desc == rlm.tools["web_search"].desc

    def test_sets_have_an_order(self):
        """The prompt of a set of tools is the same in every process."""

        def a(x):
            return x

        assert list(normalize_tools({f, a})) == ["a", "f"]

    def test_any_iterable_is_a_list(self):
        """A generator of tools is taken too."""
        assert list(normalize_tools(tool for tool in [f])) == ["f"]


class TestErrors:
    @pytest.mark.parametrize(
        ("tools", "expected"),
        [
            ("x", "tools must be a list of functions or dspy.Tool, not 'x'."),
            (5, "tools must be a list of functions or dspy.Tool, not 5."),
            (f, "For one tool write tools=[it]."),
            (dspy.Tool(f), "For one tool write tools=[it]."),
            (Module, "For one tool write tools=[it]."),
            ([5], "A tool must be a function or a dspy.Tool, not 5."),
            ([None], "A tool must be a function or a dspy.Tool, not None."),
            (["f"], "Pass the function itself, not its name."),
            ([{"type": "function"}], "its schema is read from its signature."),
            ([dict], "dict cannot be a tool: every cell has Python's own."),
            ([ValueError], "ValueError cannot be a tool: every cell has Python's own."),
            ([Module], "Module is a class of modules. A tool must be an instance: Module(...)."),
            ([Task], "such as dspy.Predict(Task)."),
            ([re], "Pass a function of the module, such as re."),
            ([Toolkit()], "tools=toolkit.get_tools()."),
            (
                [SimpleNamespace(name="m", inputSchema={})],
                "dspy.Tool.from_mcp_tool(session, tool).",
            ),
            ([lambda x: x], "a lambda has none. Name it in a mapping"),
            ([dspy.Tool(lambda x: x)], "a lambda has none. Name it in a mapping"),
            ([f, f], "Two tools are called 'f'."),
            ({"a-b": f, "a_b": f}, "Two tools are called 'a_b'."),
            ({1: f}, "The name of a tool must be a text with a Python name, not 1."),
            ({"": f}, "The name of a tool must be a text with a Python name, not ''."),
            ({"1x": f}, "A tool cannot be called '1x': it is not a Python identifier"),
            ({"🔍": f}, "it is not a Python identifier"),
            ({"__builtins__": f}, "it is not a Python identifier that cells can use"),
            ({"predict": f}, "the REPL has that name itself. Name it in a mapping"),
        ],
    )
    def test_they_say_what_to_pass(self, tools, expected):
        """Each is a SignatureError of the constructor."""
        with pytest.raises(SignatureError, match=re.escape(expected)):
            RLM("q -> a", tools=tools)

    def test_a_coroutine_instead_of_its_function(self):
        """It is closed, so that Python does not warn of it."""

        async def later():
            return 1

        with pytest.raises(SignatureError, match="Pass the coroutine function itself"):
            RLM("q -> a", tools=[later()])
