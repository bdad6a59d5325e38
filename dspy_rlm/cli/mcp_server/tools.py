"""The tools of the server, as the `mcp` package has them."""

# Annotations are values here, not texts: the `mcp` package reads them, and those of `ask` name the roots.
import asyncio
import contextlib
import functools
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field

from dspy_rlm.cli.exit_codes import code_of
from dspy_rlm.cli.failures import explain
from dspy_rlm.cli.mcp_server.asking import Answer, Asking, Question
from dspy_rlm.cli.mcp_server.progress import Progress, RunProgress
from dspy_rlm.cli.mcp_server.recorded import Answer as Found
from dspy_rlm.cli.mcp_server.recorded import Recorded
from dspy_rlm.cli.mcp_server.roots import Roots
from dspy_rlm.errors import RLMError
from dspy_rlm.events import Event
from sandbox_runtime.helpers import run_in_thread

INSTRUCTIONS = """\
Answers questions about inputs that are too large for a prompt. A model reads them with code in a sandbox, calls other \
models on parts of them, and submits an answer. A question takes seconds to minutes and costs money: ask one whole \
question instead of many small ones, and read small files yourself."""

# Seconds between two notifications of progress.
PROGRESS_SECONDS = 0.2

Whole = Annotated[int | None, Field(description="Lower than the limit of the server.")]
Amount = Annotated[float | None, Field(description="Lower than the limit of the server.")]
Structured = Annotated[CallToolResult, dict[str, Any]]

_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)


def server_of(asking: Asking, recorded: Recorded, roots: Roots, parallel: int) -> MCPServer:
    """Returns the server. `parallel` is the number of runs at once."""
    server = MCPServer(
        "dspy-rlm", instructions=INSTRUCTIONS, version=_version(), log_level="WARNING"
    )
    places = asyncio.Semaphore(parallel)
    folders = ", ".join(map(str, roots.folders)) or "none: pass `text`"

    async def ask(
        ctx: Context,
        question: Annotated[
            str, Field(description="The whole question, with the form of the answer.")
        ],
        paths: Annotated[
            list[str] | None,
            Field(description=f"Files and folders, below the roots of the server ({folders})."),
        ] = None,
        text: Annotated[str | None, Field(description="A text, instead of paths.")] = None,
        outputs: Annotated[
            str | None,
            Field(description="Typed outputs, such as `answer: str, lines: list[int]`."),
        ] = None,
        max_iterations: Whole = None,
        max_llm_calls: Whole = None,
        max_cost: Amount = None,
        max_seconds: Amount = None,
    ) -> Structured:
        """Answers a question about files or a text of any size. The answer is that of a model that has read them."""
        limits = {
            "max_iterations": max_iterations,
            "max_llm_calls": max_llm_calls,
            "max_cost": max_cost,
            "max_seconds": max_seconds,
        }
        reporter = _Reporter(ctx)
        try:
            if places.locked():
                await ctx.report_progress(0, None, "waiting for another run of this server to end")
            async with places:
                asked = Question(question, paths or (), text, outputs, limits)
                return _result(await asking.ask(asked, reporter.watch))
        finally:
            reporter.close()

    async def runs(
        action: Annotated[
            Literal["list", "show", "stats", "diagnose"],
            Field(description="`diagnose` says what a run wasted, and what to do about it."),
        ] = "list",
        run: Annotated[str | None, Field(description="Its id, or `last`.")] = None,
        step: Annotated[int | None, Field(description="For `show`: this step as a whole.")] = None,
        number: Annotated[int, Field(description="For `list`: so many.")] = 20,
    ) -> Structured:
        """Lists the recorded runs of this server, shows one, or says what they took and wasted."""
        work: dict[str, Callable[[], Found]] = {
            "list": lambda: recorded.listed(number),
            "show": lambda: recorded.shown(run or "last", step),
            "stats": lambda: recorded.counted([run] if run else []),
            "diagnose": lambda: recorded.diagnosed([run] if run else []),
        }
        return await _found(work[action])

    async def view(
        run: Annotated[str, Field(description="Its id, or `last`.")] = "last",
        page: Annotated[
            bool,
            Field(
                description="Write it as an HTML page for the user instead, and return its path."
            ),
        ] = False,
    ) -> Structured:
        """Returns a recorded run with all of its steps (reasoning, code, output), or the path of a page that shows it."""
        return await _found(functools.partial(recorded.page if page else recorded.viewed, run))

    server.add_tool(ask, annotations=ToolAnnotations(destructive_hint=False, open_world_hint=True))
    server.add_tool(runs, annotations=_READS)
    server.add_tool(view, annotations=_READS)
    return server


def _version() -> str:
    try:
        return version("dspy-rlm")
    except PackageNotFoundError:
        return ""


async def _found(work: Callable[[], Found]) -> CallToolResult:
    """Returns what was found in recorded runs. Reading a large journal takes time, so a thread does it."""
    try:
        text, data = await asyncio.wrap_future(run_in_thread(work, "rlm-mcp-runs"))
    except Exception as error:
        if code_of(error) is None and not isinstance(error, RLMError):
            raise
        return _result(Answer(explain(error), {"error": explain(error)}, failed=True))
    return _result(Answer(text, data))


def _result(answer: Answer) -> CallToolResult:
    return CallToolResult(
        content=[TextContent(type="text", text=answer.text)],
        structured_content=answer.data,
        is_error=answer.failed,
    )


class _Reporter:
    """Sends the progress of a run to the client: the newest, a few times a second."""

    def __init__(self, ctx: Any) -> None:
        self._ctx = ctx
        self._loop = asyncio.get_running_loop()
        self._progress = RunProgress()
        self._newest: Progress | None = None
        self._changed = asyncio.Event()
        self._task = asyncio.ensure_future(self._send())

    def watch(self, event: Event) -> None:
        """Takes an event, from any thread."""
        if (progress := self._progress.after(event)) is not None:
            self._newest = progress
            self._loop.call_soon_threadsafe(self._changed.set)

    def close(self) -> None:
        """Sends no more."""
        self._task.cancel()

    async def _send(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            newest = self._newest
            if newest is not None:
                # A client that is gone is noticed elsewhere.
                with contextlib.suppress(Exception):
                    await self._ctx.report_progress(newest.done, newest.total, newest.text)
            await asyncio.sleep(PROGRESS_SECONDS)
