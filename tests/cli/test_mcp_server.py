"""`dspy-rlm mcp`: a real client of the official package talks to the server, in this process, over stdio and over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import dspy
import httpx2
import pytest
from command_line import COMMAND, LOG, environment
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from dspy_rlm.cli.exit_codes import CommandError
from dspy_rlm.cli.main import command_parser
from dspy_rlm.cli.mcp_server.caps import Caps
from dspy_rlm.cli.mcp_server.http import place_of
from dspy_rlm.cli.mcp_server.progress import RunProgress
from dspy_rlm.cli.mcp_server.roots import Roots
from dspy_rlm.cli.mcp_server.serve import prepared
from dspy_rlm.errors import InputError
from dspy_rlm.events import IterationStarted, SubCallProgress
from dspy_rlm.testing import Action, PolicyServer, Task, policy, rules

# Seconds for an answer on a busy machine: a run takes several there.
PATIENCE = 60


@policy
def find_errors(task: Task):
    """A root LM that finds the lines with the question in them, and asks the sub-LM about them."""
    yield Action("How much is there?", "print(len(text) if 'text' in globals() else list(files))")
    yield Action(
        "Find them.",
        "lines = [n for n, line in enumerate(text.split('\\n'), 1) if question in line]\n"
        "meaning = sub_llm(f'{len(lines)} lines with {question}')\nprint(lines)",
    )
    fields = (
        "answer=meaning, lines=lines" if "lines: list[int]" in task.system else "answer=meaning"
    )
    yield Action("Tell.", f"SUBMIT({fields})")


@policy
def endless(task: Task):
    """A root LM that never submits."""
    while True:
        yield Action("", "import time\ntime.sleep(0.05)\nprint(len(text))")


@pytest.fixture
def policies() -> Iterator[PolicyServer]:
    """The models of the server."""
    sub = rules([(r"^(\d+) lines", lambda match: f"It is bad: {match[1]}")])
    with PolicyServer({"root": find_errors, "sub": sub, "endless": endless}) as server:
        yield server


@pytest.fixture
def start(policies: PolicyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns `start(*flags)`: the server of a command line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dspy, "cache", dspy.cache)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "app.log").write_text(LOG)

    def of(*flags: str, model: str = "openai/root") -> Any:
        models = ["--model", model, "--sub-model", "openai/sub", "--api-base", policies.base_url]
        options = command_parser().parse_args(["mcp", *models, "--journal", "runs", *flags])
        return prepared(options)

    return of


def talk(server: Any, conversation: Callable[[Client], Awaitable[Any]]) -> Any:
    """Runs a conversation of a client with a server."""

    async def run() -> Any:
        async with Client(server) as client:
            return await conversation(client)

    return asyncio.run(run())


def text_of(result: Any) -> str:
    return "\n".join(block.text for block in result.content)


class TestAsk:
    def test_an_answer_about_a_file(self, start):
        """The text is for the client's model, the structured result for its program; progress comes while it runs."""
        told: list[tuple[float, float | None, str | None]] = []

        async def note(done: float, total: float | None, message: str | None) -> None:
            told.append((done, total, message))

        async def conversation(client: Client) -> Any:
            asked = {
                "question": "ERROR",
                "paths": ["app.log"],
                "outputs": "answer: str, lines: list[int]",
            }
            return await client.call_tool("ask", asked, progress_callback=note)

        result = talk(start("--root", "data"), conversation)

        assert not result.is_error, text_of(result)
        assert text_of(result) == "answer: It is bad: 2\nlines: [2, 4]"
        data = result.structured_content
        assert data["format"] == "dspy-rlm/answer"
        assert data["outputs"] == {"answer": "It is bad: 2", "lines": [2, 4]}
        assert (data["status"], data["exit_code"]) == ("submitted", 0)
        assert [done for done, *_ in told] == sorted({done for done, *_ in told})
        assert told[0][1] == 20
        assert any("turn" in str(message) for *_, message in told)

    def test_an_answer_about_a_text(self, start):
        """Without a root, a client can pass texts only."""

        async def conversation(client: Client) -> Any:
            return (
                await client.call_tool("ask", {"question": "ERROR", "text": LOG}),
                await client.call_tool("ask", {"question": "ERROR", "paths": ["data/app.log"]}),
                await client.call_tool("ask", {"question": "ERROR"}),
                await client.call_tool("ask", {"question": " ", "text": LOG}),
                await client.call_tool(
                    "ask", {"question": "x", "text": LOG, "outputs": "a: os.Path"}
                ),
            )

        good, *wrong = talk(start(), conversation)

        assert text_of(good) == "It is bad: 2"
        assert all(result.is_error for result in wrong)
        reasons = ("without --root", "either `paths` or `text`", "question must have", "outputs:")
        for result, reason in zip(wrong, reasons, strict=True):
            assert reason in text_of(result)
            assert result.structured_content["exit_code"] in (2, 10)

    def test_limits_that_a_client_cannot_exceed(self, start, policies):
        """A client may lower them; a higher wish is cut, and the answer says so."""

        async def conversation(client: Client) -> Any:
            asked = {"question": "ERROR", "text": LOG}
            return (
                await client.call_tool("ask", {**asked, "max_iterations": 1}),
                await client.call_tool("ask", {**asked, "max_iterations": 100}),
                await client.call_tool("ask", {**asked, "max_iterations": -1}),
                await client.call_tool("ask", asked),
            )

        lower, higher, wrong, refused = talk(
            start("--max-iterations", "3", "--total-runs", "2", "--on-exhausted", "partial"),
            conversation,
        )

        assert lower.structured_content["status"] == "partial"
        assert lower.structured_content["iterations"] == 1
        assert "not submitted" in text_of(lower)
        assert "max_iterations is 3 at most" in text_of(higher)
        assert higher.structured_content["outputs"] == {"answer": "It is bad: 2"}
        assert "must be a number above 0" in text_of(wrong)
        assert "all of its 2 runs" in text_of(refused)
        assert refused.structured_content["exit_code"] == 4

    def test_a_cancelled_call_ends_its_run(self, start, policies):
        """The run stops when the client cancels; the server answers the next question."""

        async def conversation(client: Client) -> Any:
            asked = {"question": "x", "text": LOG}
            running = asyncio.ensure_future(client.call_tool("ask", asked))
            while not policies.requests:
                await asyncio.sleep(0.01)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            listed = await client.call_tool("runs", {"action": "list"})
            sent = len(policies.requests)
            await asyncio.sleep(0.5)
            return sent, len(policies.requests), listed

        before, after, listed = talk(start(model="openai/endless"), conversation)

        assert after <= before + 1
        assert not listed.is_error

    def test_a_server_whose_model_fails(self, start, policies):
        """The error is a result with the exit code of the command line, not a failure of the protocol."""

        async def conversation(client: Client) -> Any:
            return await client.call_tool("ask", {"question": "x", "text": LOG})

        result = talk(start(model="openai/unknown"), conversation)

        assert result.is_error
        assert result.structured_content["exit_code"] in (20, 21)
        assert result.structured_content["error"]


class TestRuns:
    def test_the_runs_of_this_server(self, start):
        """They are listed, shown, counted, diagnosed and viewed, without the places of their files."""

        async def conversation(client: Client) -> Any:
            await client.call_tool("ask", {"question": "ERROR", "text": LOG})
            actions = [
                {"action": "list"},
                {"action": "show", "run": "last", "step": 1},
                {"action": "stats"},
            ]
            found = [
                await client.call_tool("runs", one) for one in [*actions, {"action": "diagnose"}]
            ]
            return [
                *found,
                await client.call_tool("view", {}),
                await client.call_tool("view", {"run": "nothing"}),
                await client.call_tool("view", {"page": True}),
            ]

        listed, shown, counted, diagnosed, viewed, missing, page = talk(start(), conversation)

        (run,) = listed.structured_content["runs"]
        assert run["status"] == "submitted"
        assert "path" not in run
        assert shown.structured_content["step"]["outcome"] == "completed"
        assert counted.structured_content["statistics"]["runs"] == 1
        assert diagnosed.structured_content["findings"] == []
        assert [step["number"] for step in viewed.structured_content["steps"]] == [1, 2, 3]
        assert missing.is_error
        written = Path(page.structured_content["page"])
        assert "Content-Security-Policy" in written.read_text("utf-8")
        written.unlink()

    def test_other_runs_are_not_shown(self, start, tmp_path):
        """Only with --all-runs; and never by a path."""

        async def ask(client: Client) -> Any:
            return await client.call_tool("ask", {"question": "ERROR", "text": LOG})

        async def look(client: Client) -> Any:
            path = str(next(Path("runs").glob("*.jsonl")).absolute())
            return (
                await client.call_tool("runs", {}),
                await client.call_tool("view", {"run": path}),
            )

        talk(start(), ask)
        listed, by_path = talk(start(), look)
        everything, again = talk(start("--all-runs"), look)

        assert listed.structured_content == {"runs": []}
        assert by_path.is_error
        assert len(everything.structured_content["runs"]) == 1
        assert again.is_error


class TestTransports:
    def test_over_stdio(self, policies, tmp_path):
        """The command speaks the protocol alone on stdout, and ends with its client."""
        (tmp_path / "app.log").write_text(LOG)
        models = [
            "--model",
            "openai/root",
            "--sub-model",
            "openai/sub",
            "--api-base",
            policies.base_url,
        ]
        program, *arguments = [*COMMAND, "mcp", *models, "--root", str(tmp_path), "--no-journal"]
        variables = {**environment(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
        server = StdioServerParameters(command=program, args=arguments, env=variables, cwd=tmp_path)

        async def conversation(client: Client) -> Any:
            tools = (await client.list_tools()).tools
            asked = {"question": "ERROR", "paths": ["app.log"]}
            return tools, await client.call_tool("ask", asked), client.instructions

        tools, result, instructions = talk(server, conversation)

        assert [tool.name for tool in tools] == ["ask", "runs", "view"]
        assert text_of(result) == "It is bad: 2"
        assert "too large for a prompt" in instructions

    def test_over_http(self, start, monkeypatch, capsys):
        """Only for clients of this machine: a wrong host, a wrong origin or a wrong token is refused."""
        from dspy_rlm.cli.mcp_server.http import serve_http

        monkeypatch.setenv("DSPY_RLM_MCP_TOKEN", "the token")
        token = {"Authorization": "Bearer the token"}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}

        async def run() -> Any:
            serving = asyncio.ensure_future(serve_http(start(), "0"))
            url = ""
            while not url and not serving.done():
                await asyncio.sleep(0.01)
                url = capsys.readouterr().out.strip()
            async with httpx2.AsyncClient(
                headers={"Accept": "application/json, text/event-stream"}, timeout=PATIENCE
            ) as http:
                codes = []
                for headers in (
                    {},
                    {**token, "Host": "evil.example"},
                    {**token, "Origin": "http://evil.example"},
                ):
                    codes.append((await http.post(url, json=body, headers=headers)).status_code)
            async with (
                httpx2.AsyncClient(headers=token, timeout=PATIENCE) as http,
                Client(streamable_http_client(url, http_client=http)) as client,
            ):
                result = await client.call_tool("ask", {"question": "ERROR", "text": LOG})
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
            return codes, result

        codes, result = asyncio.run(run())

        assert codes == [401, 421, 403]
        assert text_of(result) == "It is bad: 2"

    @pytest.mark.parametrize(
        "text", ["0.0.0.0:80", "example.com:80", "x", "70000", "-1", "[::]:80"]
    )
    def test_only_addresses_of_this_machine(self, text):
        """Others are refused before anything is served."""
        with pytest.raises(CommandError):
            place_of(text)

    def test_addresses(self):
        """A port alone is one of 127.0.0.1."""
        assert place_of("8000") == ("127.0.0.1", 8000)
        assert place_of("[::1]:0") == ("[::1]", 0)


class TestRoots:
    def test_paths_below_the_roots(self, tmp_path):
        """Relative paths are relative to a root; links may lead anywhere within the roots."""
        one, two = tmp_path / "one", tmp_path / "two"
        one.mkdir()
        two.mkdir()
        (two / "b.txt").write_text("b")
        (one / "link.txt").symlink_to(two / "b.txt")
        roots = Roots([one, two])
        assert roots.allowed(["b.txt", str(one), "link.txt"]) == [two / "b.txt", one, two / "b.txt"]

    def test_paths_outside(self, tmp_path):
        """Neither `..`, nor an absolute path, nor a link leads out; what is missing there looks the same."""
        root, outside = tmp_path / "root", tmp_path / "outside.txt"
        (root / "inner").mkdir(parents=True)
        outside.write_text("secret")
        (root / "link.txt").symlink_to(outside)
        (root / "inner" / "link.txt").symlink_to(outside)
        (root / "inner" / ".hidden").symlink_to(outside)
        roots = Roots([root])
        for name in (
            "../outside.txt",
            str(outside),
            "link.txt",
            "/etc/passwd",
            "../nothing",
            "a\0b",
            "file:///x",
        ):
            with pytest.raises(InputError, match=r"There is no|not the path") as caught:
                roots.allowed([name])
            assert "secret" not in str(caught.value)
        with pytest.raises(InputError, match="link that leads outside"):
            roots.allowed(["inner"])

    def test_a_root_that_is_none(self, tmp_path):
        """A mistake of the command line is found at once."""
        with pytest.raises(InputError, match="no such folder"):
            Roots([tmp_path / "nothing"])


class TestCaps:
    def test_the_total_is_kept_by_runs_at_once(self):
        """The most that a run may cost is reserved until its end; then the unspent part is free again, unless the cost is unknown."""
        caps = Caps({"max_cost": 0.6}, total_cost=1.0)
        with caps.run(caps.lowered({}).limits) as (first, spent):
            assert first["max_cost"] == 0.6
            with caps.run(caps.lowered({}).limits) as (second, _):
                assert second["max_cost"] == pytest.approx(0.4)
                with pytest.raises(CommandError, match="used up"), caps.run({}):
                    pass
            spent.cost = 0.1
        with caps.run({}) as (third, _):
            assert third["max_cost"] == pytest.approx(0.5)

    def test_wishes(self):
        """A lower wish holds, a higher one is noted, and one that is no limit is refused."""
        caps = Caps({"max_iterations": 5})
        assert caps.lowered({"max_iterations": 2, "max_cost": 1.0}).limits == {
            "max_iterations": 2,
            "max_cost": 1.0,
        }
        higher = caps.lowered({"max_iterations": 9})
        assert higher.limits == {"max_iterations": 5}
        assert higher.notes
        for wrong in ({"max_iterations": 0}, {"max_cost": float("nan")}, {"max_errors": 1}):
            with pytest.raises(CommandError):
                caps.lowered(wrong)

    @pytest.mark.parametrize("totals", [{"total_cost": 0}, {"total_runs": -1}])
    def test_totals(self, totals):
        """They are above 0."""
        with pytest.raises(CommandError):
            Caps({}, **totals)


def test_progress_only_grows():
    """Also where events of a batch come late."""
    progress = RunProgress()
    events = [
        IterationStarted(2, 10),
        SubCallProgress(2, "predict_batched", 50, 100, 1.0),
        SubCallProgress(2, "predict_batched", 40, 100, 1.0),
        IterationStarted(3, 10),
    ]
    found = [progress.after(event) for event in events]
    numbers = [one.done for one in found if one]
    assert numbers == sorted(set(numbers))
    assert found[1] is not None
    assert found[1].text == "turn 2: predict_batched, 50 of 100"
