"""Tools of the packages that users have them from: a real MCP server over stdio, and LangChain's tools."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Literal

import dspy
import pydantic
import pytest
from langchain_core.tools import BaseTool, StructuredTool, Tool, tool
from mcp import Client, ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from dspy_rlm import RLM, InputError
from dspy_rlm.prompts.tool_docs import tool_call

# It has the form of no known key, and the environment of the tests does not have it.
KEY = "Zx9qLm44TTabc77v"

PARAMETERS = StdioServerParameters(
    command=sys.executable,
    args=[str(Path(__file__).with_name("mcp_server.py"))],
    env={"WAREHOUSE_KEY": KEY},
)


@contextlib.asynccontextmanager
async def session() -> AsyncIterator[Any]:
    """The client of the SDK's first version, which the second one still has."""
    async with stdio_client(PARAMETERS) as streams, ClientSession(*streams) as client:
        await client.initialize()
        yield client


async def tools_of(client: Any) -> list[dspy.Tool]:
    """The server's tools, as DSPy converts them."""
    listed = (await client.list_tools()).tools
    return [dspy.Tool.from_mcp_tool(client, one) for one in listed]


CALLS = """
import asyncio
print(move("north"), "|", move("south", 2, mode="slow", kind="wet", items=[{"sku": "x"}]))
print(move.batched(["a", "b"]), await asyncio.gather(*(move.aio(w) for w in "cd")))
print(web_search("q"))
for wrong in (lambda: move(), lambda: move("n", mode="no"), lambda: move("n", size=1), lambda: refuse()):
    try:
        print(wrong())
    except Exception as error:
        print(type(error).__name__, error)
"""


class TestMCP:
    @pytest.mark.parametrize(
        "opened", [session, lambda: Client(PARAMETERS)], ids=["session", "client"]
    )
    def test_a_server_over_stdio(self, play, kept, opened):
        """Cells call its tools by position, by name, in batches and at once; errors say the right call."""

        async def run() -> Any:
            async with opened() as client:
                return await RLM("q -> a", tools=await tools_of(client), pool=kept).acall(q="")

        _, server = play("q -> a", CALLS, "SUBMIT('done')")
        result = asyncio.run(run())
        output, system = result.trajectory[0]["output"], server.requests[0].request.system
        assert output.startswith(
            "north 1 fast dry [] 1.5 | south 2 slow wet ['x'] 1.5\n"
            "['a 1 fast dry [] 1.5', 'b 1 fast dry [] 1.5'] ['c 1 fast dry [] 1.5', 'd 1 fast dry [] 1.5']\n"
            "['q', 'Q']\n"
        )
        assert "missing a required argument: 'warehouse'" in output
        assert "Arg mode is invalid: 'no' is not one of ['fast', 'slow']" in output
        assert "unexpected keyword argument 'size'" in output
        assert "RuntimeError Failed to call a MCP tool: Error executing tool refuse" in output
        assert (
            "move(warehouse: str, amount: int = 1, mode: Literal['fast', 'slow'] = 'fast'" in system
        )
        assert "weight: In kg; exclusiveMinimum 0" in system
        assert "web_search(query: str)" in system

    def test_a_key_that_the_server_quotes(self, play, kept):
        """The key that the client starts its server with reaches neither cell nor prompt."""
        code = "try: refuse()\nexcept Exception as error: print(error)"

        async def run() -> Any:
            async with Client(PARAMETERS) as client:
                return await RLM("q -> a", tools=await tools_of(client), pool=kept).acall(q="")

        _, server = play("q -> a", code, "SUBMIT('x')")
        result = asyncio.run(run())
        assert "answered 401 to the key [secret]" in result.trajectory[0]["output"]
        assert KEY not in "".join(exchange.prompt for exchange in server.requests)
        assert KEY not in str(result.run.dump())

    def test_a_synchronous_run_is_refused(self, play, kept):
        """It would wait forever for the loop that opened the session."""

        async def run() -> None:
            async with Client(PARAMETERS) as client:
                rlm = RLM("q -> a", tools=await tools_of(client), pool=kept)
                with pytest.raises(InputError, match=r"await rlm\.acall"):
                    await asyncio.to_thread(rlm, q="")

        _, server = play("q -> a", "SUBMIT('x')")
        asyncio.run(run())
        assert server.requests == []


class Item(pydantic.BaseModel):
    sku: str
    amount: int = pydantic.Field(1, description="How many.")


@tool
def add(x: int, y: int = 2) -> int:
    """Adds."""
    return x + y


@tool
async def order(item: Item, how: Annotated[Literal["fast", "slow"], "The way."] = "fast") -> str:
    """Orders."""
    return f"{item.sku} {item.amount} {how}"


class Own(BaseTool):
    name: str = "own"
    description: str = "Its own."
    api_key: str = KEY

    def _run(self, a: int) -> str:
        raise LookupError(f"{a} is refused for {self.api_key}")


def today() -> datetime.date:
    """Returns the date."""
    return datetime.date(2024, 1, 2)


LANGCHAIN = [
    add,
    dspy.Tool.from_langchain(order),
    Own(),
    StructuredTool.from_function(lambda q, n=3: q * n, name="web-search", description="Searches."),
    StructuredTool.from_function(today),
    StructuredTool(
        name="plain_schema",
        description="Repeats.",
        args_schema={
            "type": "object",
            "properties": {"q": {"type": "string"}, "n": {"type": "integer"}},
            "required": ["q"],
        },
        func=lambda q, n=1: q * n,
    ),
    Tool(name="old", func=str.upper, description="In capitals."),
]


class TestLangChain:
    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            ("[add(1), add(1, 5), add(y=1, x=2), add.batched([1, 2])]", [3, 6, 3, [3, 4]]),
            (
                "[order({'sku': 's'}), order(Item(sku='t', amount=2), 'slow')]",
                ["s 1 fast", "t 2 slow"],
            ),
            ("[web_search('a'), web_search('a', n=2)]", ["aaa", "aa"]),
            ("[plain_schema('r'), plain_schema('r', 2)]", ["r", "rr"]),
            ("old('abc')", "ABC"),
            ("today().isoformat()", "2024-01-02"),
            ("await add.aio(4)", 6),
        ],
    )
    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_calls(self, play, code, expected, asynchronous):
        """Tools of every kind are called by position or by name, also in a synchronous run."""
        rlm, _ = play("q -> a: bool", f"SUBMIT({code} == {expected!r})", tools=LANGCHAIN)

        assert (asyncio.run(rlm.acall(q="")) if asynchronous else rlm(q="")).a is True

    def test_the_shown_calls(self, play):
        """Names, types and defaults are those of the schema."""
        rlm, _ = play("q -> a", "SUBMIT('')", tools=LANGCHAIN)

        assert [tool_call(one) for one in rlm.tools.values()] == [
            "add(x: int, y: int = 2)",
            "order(item: Item, how: Literal['fast', 'slow'] = 'fast')",
            "own(a: int)",
            "web_search(q: Any, n: Any = 3)",
            "today()",
            "plain_schema(q: str, n: int = ...)",
            "old(tool_input: str)",
        ]

    def test_errors_show_no_key(self, play):
        """A tool's own attribute with a key does not reach the cell by an exception."""
        rlm, server = play(
            "q -> a",
            "try: own(1)\nexcept Exception as error: print(error)",
            "SUBMIT('')",
            tools=LANGCHAIN,
        )
        output = rlm(q="").trajectory[0]["output"]

        assert output == "1 is refused for [secret]"
        assert KEY not in server.requests[-1].prompt
