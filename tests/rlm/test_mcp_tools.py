"""`MCP`: the tools of a real server as functions in the REPL, over stdio and over HTTP, and servers that misbehave."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import copy
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dspy
import pytest

import dspy_rlm
from dspy_rlm import MCP, RLM, SignatureError, TextFile, ToolServerError
from dspy_rlm.mcp_tools import guardian
from dspy_rlm.mcp_tools.config_file import expanded
from dspy_rlm.prompts.tool_docs import document
from dspy_rlm.testing import Action, asks_for, route, scripted

# It has the form of no known key, and the environment of the tests does not have it.
KEY = "Zx9qLm44TTabc77v"

HERE = Path(__file__).parent
SERVER = [sys.executable, str(HERE / "mcp_server.py")]
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
ANSWERS = (
    "north 1 fast dry [] 1.5 | south 2 slow wet ['x'] 1.5\n"
    "['a 1 fast dry [] 1.5', 'b 1 fast dry [] 1.5'] ['c 1 fast dry [] 1.5', 'd 1 fast dry [] 1.5']\n"
    "['q', 'Q']\n"
)


def warehouse(**options: Any) -> MCP:
    """The server of the official package, over stdio."""
    return MCP(SERVER, env={"WAREHOUSE_KEY": KEY}, **options)


@contextlib.contextmanager
def odd(kind: str, *more: str, **options: Any) -> Iterator[MCP]:
    """The server that misbehaves."""
    command = [sys.executable, str(HERE / "odd_mcp_server.py"), kind, *more]
    with contextlib.closing(MCP(command, env={"SERVER_KEY": KEY}, **options)) as server:
        yield server


def call(server: MCP, name: str = "act", **arguments: Any) -> Any:
    """Calls a tool as a run does."""
    return asyncio.run(server.tools_for()[name].acall(**arguments))


def call_again(server: MCP, name: str, **arguments: Any) -> Any:
    """Calls a tool as a run does that has listed it before."""
    return asyncio.run(server._call(name, arguments)).structured_content["result"]


def _started(kind: str, port: int) -> tuple[subprocess.Popen[bytes], int]:
    """Starts that server, and waits until it answers. A port of 0: it found none."""
    process = subprocess.Popen(
        [*SERVER, kind, str(port)],
        env={**os.environ, "WAREHOUSE_KEY": KEY},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return process, port
        time.sleep(0.05)
    return process, 0


def _started_anywhere(kind: str) -> tuple[subprocess.Popen[bytes], int]:
    """Starts it at a free port. Another process may take the port before the server does: then at the next."""
    for _ in range(5):
        with socket.create_server(("127.0.0.1", 0)) as place:
            free = place.getsockname()[1]
        process, port = _started(kind, free)
        if port:
            return process, port
    raise AssertionError("the server does not start")


@contextlib.contextmanager
def official(kind: str, port: int = 0) -> Iterator[tuple[subprocess.Popen[bytes], str, int]]:
    """The server of the official package over HTTP: its process, address and port."""
    process, port = _started(kind, port) if port else _started_anywhere(kind)
    try:
        yield process, f"http://127.0.0.1:{port}/{'mcp' if kind == 'http' else 'sse'}", port
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def stateful() -> Iterator[tuple[str, list[int]]]:
    """A server of an earlier version of the protocol: its address, and its sessions, the last of which it knows."""
    sessions = [0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            method, session = request["method"], str(sessions[-1])
            if "id" not in request:
                self.answer(202)
            elif method == "initialize":
                version = request["params"]["protocolVersion"]
                info = {"name": "stateful", "version": "1"}
                facts = {
                    "protocolVersion": version,
                    "capabilities": {"tools": {}},
                    "serverInfo": info,
                }
                self.answer(200, {"id": request["id"], "result": facts})
            elif method.startswith("tools/") and self.headers.get("mcp-session-id") != session:
                self.answer(404)
            elif method == "tools/list":
                schema = {"type": "object", "properties": {"text": {"type": "string"}}}
                self.answer(
                    200,
                    {
                        "id": request["id"],
                        "result": {"tools": [{"name": "echo", "inputSchema": schema}]},
                    },
                )
            elif method == "tools/call":
                said = [{"type": "text", "text": request["params"]["arguments"]["text"]}]
                self.answer(200, {"id": request["id"], "result": {"content": said}})
            else:
                self.answer(400)

        def do_GET(self) -> None:
            self.answer(405)

        def do_DELETE(self) -> None:
            self.answer(200)

        def answer(self, status: int, body: Any = None) -> None:
            data = b"" if body is None else json.dumps({"jsonrpc": "2.0", **body}).encode()
            self.send_response(status)
            self.send_header("mcp-session-id", str(sessions[-1]))
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Prints nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/mcp", sessions
        http.shutdown()


def is_alive(pid: int) -> bool:
    """Returns whether a process runs; one that has ended and is not reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_end(*pids: int) -> bool:
    """Returns whether the processes end."""
    end = time.monotonic() + 20
    while any(map(is_alive, pids)):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="module", params=["http", pytest.param("sse", marks=pytest.mark.nightly)])
def remote(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of the official server over HTTP."""
    with official(request.param) as (_, url, _):
        yield url


class TestInRuns:
    def test_a_server_over_stdio(self, play):
        """Cells call its tools by position, by name, in batches and at once; errors say the right call; no key is shown."""
        rlm, server = play("q -> a", CALLS, "help(move)", "SUBMIT('done')", tools=[warehouse()])

        with rlm:
            result = rlm(q="")

        output, system = result.trajectory[0]["output"], server.requests[0].request.system
        assert output.startswith(ANSWERS)
        assert "missing a required argument: 'warehouse'" in output
        assert "Arg mode is invalid: 'no' is not one of ['fast', 'slow']" in output
        assert "unexpected keyword argument 'size'" in output
        assert "RuntimeError Error executing tool refuse" in output
        assert "answered 401 to the key [secret]" in output
        call = "move(warehouse: str, amount: int = 1, mode: Literal['fast', 'slow'] = 'fast'"
        assert call in system
        assert "weight: In kg; exclusiveMinimum 0" in system
        assert "web_search(query: str)" in system
        assert "which calls it 'web-search'" in system
        assert "Moves goods." in result.trajectory[1]["output"]
        assert KEY not in "".join(exchange.prompt for exchange in server.requests)
        assert KEY not in str(result.run.dump())

    def test_a_server_behind_an_address(self, play, remote):
        """The same over streamable HTTP and over server-sent events, in an asynchronous run."""
        rlm, _ = play("q -> a", CALLS, "SUBMIT('done')", tools={"shop": MCP(url=remote)})

        result = asyncio.run(rlm.acall(q=""))

        assert "name 'move' is not defined" in result.trajectory[0]["output"]
        code = CALLS.replace("move", "shop_move").replace("web", "shop_web")
        rlm, _ = play(
            "q -> a",
            code.replace("refuse", "shop_refuse"),
            "SUBMIT('done')",
            tools=rlm._config.servers,
        )
        with rlm:
            result = asyncio.run(rlm.acall(q=""))
        assert result.trajectory[0]["output"].startswith(ANSWERS)

    def test_the_server_is_started_once(self, play):
        """By the first run, not by the constructor; it stays for later runs, also in threads, and ends with the RLM."""
        code = "print(act())\nSUBMIT('x')"
        with odd("spawns") as tools:
            rlm, _ = play("q -> a", code, tools=[tools])
            assert tools._connection is None
            found: list[str] = []

            def run(_: int = 0) -> None:
                found.append(rlm(q="").trajectory[0]["output"])

            run()
            parallel = dspy.Parallel(num_threads=3, disable_progress_bar=True)
            parallel([(lambda **_: run(), {"q": ""})] * 3)

            pids = {output.split()[0] for output in found}
            assert len(found) == 4
            assert len(pids) == 1
            rlm.close()
            assert wait_for_end(*map(int, pids), *(int(output.split()[1]) for output in found))

    def test_a_list_that_changes(self, play, tmp_path):
        """Each run lists the tools anew, and its prompt has those of now."""
        count = tmp_path / "count"
        count.write_text("1")
        with odd("changing", str(count)) as tools:
            rlm, server = play("q -> a", "SUBMIT('x')", "SUBMIT('x')", tools=[tools])
            rlm(q="")
            count.write_text("3")
            rlm(q="")
        first, second = (exchange.request.system for exchange in server.requests)
        assert "tool_1" not in first
        assert "tool_2(text: str)" in second

    def test_many_tools(self, play):
        """Of very many, the prompt has names and one line each; `help` has the rest."""
        with odd("many") as tools:
            rlm, server = play("q -> a", "help(tool_7)", "SUBMIT('x')", tools=[tools, local])
            result = rlm(q="")
        system = server.requests[0].request.system
        assert "- `tool_7(text)`: Does the thing number 7.\n" in system
        assert "- `local(text: str) -> str` Is documented. Fully." in " ".join(system.split())
        assert "call `help(name)`" in system
        assert len(system) < 30_000
        assert "tool_7(text: str)" in result.trajectory[0]["output"]
        assert "More on it. Does the thing" in result.trajectory[0]["output"]

    def test_media_and_bytes(self, play):
        """Images and audio can be passed to sub-LMs, bytes are bytes, and what cannot be read says so."""
        code = "parts = act()\nprint([type(p).__name__ for p in parts], parts[3:])\nSUBMIT(sub_llm('What is it?', parts[1]))"
        with odd("parts") as tools:
            rlm, server = play("q -> a", code, tools=[tools], sub=lambda _: "a pixel")
            result = rlm(q="")
        output = result.trajectory[0]["output"]
        assert result.a == "a pixel"
        assert "data:image/png;base64,iVBOR" in str(server.requests[-1])
        assert output.startswith("['str', 'Handle', 'Handle', 'dict', 'dict', 'dict']")
        assert r"b'\x00\x01\x02'" in output
        assert "'uri': 'a://c'" in output
        assert "'type': 'unreadable', 'mime_type': 'image/png'" in output

    def test_a_server_that_dies_in_a_call(self, play):
        """The cell sees why; the next call starts the server again."""
        code = "try: act()\nexcept Exception as e: print(type(e).__name__, e)\nprint(echo('again'))\nSUBMIT('x')"
        with odd("dies") as tools:
            rlm, _ = play("q -> a", code, tools=[tools])
            output = rlm(q="").trajectory[0]["output"]
        assert "out of memory" in output
        assert "\nagain\n" in output

    def test_a_server_that_cannot_be_started(self, play):
        """The run ends before any LM is called, with the server's own last words, without its key."""
        for kind, reason in (("ends", "no such database"), ("silent", "within 1 s")):
            with odd(kind, start_timeout=1) as tools:
                rlm, server = play("q -> a", "SUBMIT('x')", tools=[tools])
                with pytest.raises(ToolServerError, match=reason):
                    rlm(q="")
                assert server.requests == []

    @pytest.mark.nightly
    def test_a_server_that_is_started_again(self, play):
        """A server behind an address may forget its clients; the request is sent again, once it cannot have been seen."""
        with official("http") as (process, url, port), MCP(url=url, timeout=20) as server:
            assert call(server, "move", warehouse="a").startswith("a 1")
            process.kill()
            process.wait()
            with pytest.raises(ConnectionError, match="is not connected"):
                call_again(server, "move", warehouse="b")
            with official("http", port):
                assert call_again(server, "move", warehouse="c").startswith("c 1")

    def test_a_server_that_forgets_its_sessions(self, play):
        """A new session is opened, for the list of tools at the start of a run and for a call."""
        with stateful() as (url, sessions), MCP(url=url, timeout=20) as server:
            tools = server.tools_for()
            for _ in range(2):
                sessions.append(sessions[-1] + 1)
                assert asyncio.run(tools["echo"].acall(text="x")) == "x"
                sessions.append(sessions[-1] + 1)
                assert list(server.tools_for()) == ["echo"]

    def test_a_text_on_the_host_is_sent_whole(self, play, tmp_path):
        """JSON has no lazy texts."""
        (tmp_path / "log.txt").write_text("hello")
        with odd("parts") as tools:
            rlm, _ = play("log -> a", "SUBMIT(echo(log))", tools=[tools])
            assert rlm(log=TextFile(tmp_path / "log.txt")).a == "hello"

    @pytest.mark.nightly  # waits for a server that hangs
    def test_the_time_of_a_run_is_kept(self, play):
        """A call that hangs is given up with the run."""
        with odd("hangs", timeout=None) as tools:
            rlm, _ = play(
                "q -> a", "act()", extracted={"a": "late"}, tools=[tools], max_seconds=1.5
            )
            result = rlm(q="")
        assert result.run.stopped_by == "max_seconds"

    def test_a_cancelled_run(self, play):
        """Cancelling `acall` cancels the call of the tool, and the server is there for the next run."""
        with odd("parts") as tools:
            rlm, _ = play("q -> a", "SUBMIT(echo('x'))", tools=[tools])

            async def run() -> Any:
                slow = asyncio.ensure_future(rlm.acall(q=""))
                await asyncio.sleep(0)
                slow.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await slow
                return await rlm.acall(q="")

            assert asyncio.run(run()).a == "x"

    def test_sub_runs_have_the_tools(self, play):
        """They use the server of the run above."""
        worker = route((asks_for("code"), scripted(Action("", "SUBMIT(echo(part))"))))
        with odd("parts") as tools:
            code = "SUBMIT(sub_rlm('part -> a', part=q).a)"
            rlm, _ = play("q -> a", code, sub=worker, tools=[tools])
            assert rlm(q="deep").a == "deep"

    def test_a_resumed_run_repeats_no_call(self, play, tmp_path):
        """The answers of a server are read from the journal."""
        journal, count = tmp_path / "run.jsonl", tmp_path / "count"
        with odd("counts", str(count)) as tools:
            rlm, _ = play(
                "q -> a",
                "print(act())",
                "print(act())",
                "SUBMIT('x')",
                tools=[tools],
                journal=journal,
            )
            rlm(q="")
            lines = journal.read_bytes().splitlines(keepends=True)
            first = next(at for at, line in enumerate(lines) if b'"tool_end"' in line)
            part = tmp_path / "part.jsonl"
            part.write_bytes(b"".join(lines[: first + 1]))
            assert rlm.resume(part).a == "x"
        assert count.read_text() == "xxx"

    def test_a_replay_needs_no_server(self, play, tmp_path):
        """The calls of servers are recorded; the prompts of a replay are the same."""
        journal = tmp_path / "run.jsonl"
        with odd("many") as tools:
            rlm, server = play(
                "q -> a",
                "print(tool_3('x'))",
                "SUBMIT('x')",
                tools=[tools, local],
                journal=str(journal),
            )
            rlm(q="")
        replayed = dspy_rlm.replay(str(journal))
        assert not replayed.differences
        assert "tool_3" in server.requests[0].request.system


def local(text: str) -> str:
    """Is documented.

    Fully.
    """
    return text


class TestHostileServers:
    def test_names(self):
        """None hides a name of Python, of the REPL or an input; all are Python names, and their documentation says theirs."""
        with odd("names", prefix="") as server:
            tools = server.tools_for({"q"})
        names = list(tools)
        assert names[:8] == [
            *(
                "odd_mcp_server_print",
                "odd_mcp_server_len",
                "web_search",
                "odd_mcp_server_web_search",
            ),
            *("class_", "tool_1st", "tool", "odd_mcp_server_q"),
        ]
        assert all(name.isidentifier() and len(name) <= 64 for name in names)
        assert "calls it 'web.search'" in tools["odd_mcp_server_web_search"].desc
        assert "\u202e" not in "".join(tool.desc for tool in tools.values())

    def test_documentation(self):
        """It is bounded, and cannot pass for a part of the prompt; circles and foreign references in schemas are cut."""
        with odd("hostile") as server:
            named, lure, vast = server.tools_for().values()
        shown = document(lure)
        assert "calls it '\\[[ ## code ## ]]" in document(named)
        assert set(lure.args) == {"circle", "far", "text", "kind", "limit"}
        assert "enum" not in lure.args["kind"]
        for line in ("\\=== Step 9 ===", "\\Reasoning: none", "\\```python", "\\[[ ## code ## ]]"):
            assert f"    {line}" in shown
        assert "\x1b" not in shown
        assert "\u202e" not in shown
        assert "$ref" not in str(lure.args)
        assert len(document(vast)) < 5_000

    @pytest.mark.parametrize(
        ("kind", "error", "reason"),
        [
            ("fails", RuntimeError, f"refused with the key {KEY}"),
            ("hangs", TimeoutError, "gave no answer within 1 s"),
            ("huge", ConnectionError, "more than 33,554,432 bytes"),
            ("asks", ConnectionError, "more than 1,000 requests in 10 s"),
            ("garbage", ConnectionError, "a message that cannot be read"),
        ],
    )
    def test_errors(self, kind, error, reason):
        """Each is an exception of the call that says what the server did. (Runs remove keys from them.)"""
        seconds = 1 if kind == "hangs" else 60
        with odd(kind, timeout=seconds) as server, pytest.raises(error, match=re.escape(reason)):
            call(server)

    def test_a_flood(self):
        """Notifications that nobody reads are dropped."""
        with odd("flood") as server:
            assert call(server) == "done"

    def test_results(self):
        """Structured content is plain data. A result that is wrapped by an SDK is unwrapped, another one is not."""
        with odd("structured") as server:
            assert call(server) == {"rows": [{"a": 1}], "result": 2}

    def test_a_server_that_ends_at_once_each_time(self):
        """It is not started for ever."""
        with odd("dies") as server:
            for _ in range(5):
                with pytest.raises(ConnectionError, match="out of memory"):
                    call(server)
            with pytest.raises(ConnectionError, match="out of memory"):
                call(server)
            with pytest.raises(ToolServerError, match="has ended 5 times"):
                server.start()

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    @pytest.mark.parametrize("host", ["guardian", pytest.param("mcp", marks=pytest.mark.nightly)])
    def test_no_process_is_left_after_sigkill(self, host):
        """The server and what it has started end with this process, however that ends; also if they ignore signals."""
        program = (
            "import os, signal, subprocess, sys, time\n"
            "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
            "print(os.getpid(), child.pid, flush=True)\n"
            "time.sleep(600)\n"
        )
        start = {
            "guardian": (
                "import os, subprocess, sys\n"
                "end, lifeline = os.pipe()\n"
                f"guardian = [sys.executable, '-I', '-S', {guardian.__file__!r}, str(end)]\n"
                f"subprocess.Popen([*guardian, sys.executable, '-c', {program!r}], pass_fds=[end])\n"
            ),
            "mcp": (
                "import asyncio, sys, dspy_rlm\n"
                f"server = dspy_rlm.MCP([sys.executable, {str(HERE / 'odd_mcp_server.py')!r}, 'spawns'])\n"
                "print(asyncio.run(server.tools_for()['act'].acall()), flush=True)\n"
            ),
        }
        with subprocess.Popen(
            [sys.executable, "-c", f"{start[host]}sys.stdin.read()\n"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            pids = [int(pid) for pid in process.stdout.readline().split()]
            assert all(map(is_alive, pids))
            process.send_signal(signal.SIGKILL)
        assert len(pids) == 2
        assert wait_for_end(*pids)

    def test_the_exit_code_of_a_guardian(self):
        """It is that of the command, or of the signal that ended it; a missing command is 127."""
        end, lifeline = os.pipe()
        codes = [
            subprocess.run(
                [sys.executable, "-I", "-S", guardian.__file__, str(end), *command],
                pass_fds=[end],
                check=False,
                stderr=subprocess.DEVNULL,
            ).returncode
            for command in (["sh", "-c", "exit 3"], ["sh", "-c", "kill -9 $$"], ["/no/program"])
        ]
        os.close(end)
        os.close(lifeline)
        assert codes == [3, 128 + signal.SIGKILL, guardian.NOT_STARTED]


@pytest.mark.parametrize("path", ["mcp", "sse"])
@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "pass a key that it accepts"), (500, "it answered 500"), (302, "it answered 302")],
)
def test_addresses_that_refuse(path, status, reason):
    """The error has the status, not the password in the address."""

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 - the name that the base class calls

        def log_message(self, *_: Any) -> None:
            """Prints nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        server = MCP(url=f"http://me:{KEY}@127.0.0.1:{http.server_port}/{path}", start_timeout=20)
        with pytest.raises(ToolServerError, match=reason) as caught:
            server.start()
        http.shutdown()
    assert KEY not in f"{caught.value}{server!r}"


class TestSettings:
    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            ({}, "either a command"),
            ({"command": ["x"], "url": "http://x"}, "either a command"),
            ({"command": "npx -y server"}, r"\['npx', '-y', 'server'\]"),
            ({"command": []}, "must be a list"),
            ({"command": ["x", 1]}, "not an argument"),
            ({"url": "ftp://x"}, "must be an address"),
            ({"url": "http://x", "env": {}}, "env and cwd are for a command"),
            ({"command": ["x"], "headers": {}}, "headers and transport are for url"),
            ({"command": ["x"], "env": {"A": 1}}, r"env\['A'\] must be a text, not a int"),
            ({"url": "http://x", "headers": {"a": "b\nc"}}, "line break"),
            ({"command": ["x"], "timeout": 0}, "timeout must be a number of seconds"),
            ({"command": ["x"], "only": "echo"}, "only must be a list"),
            ({"url": "http://x", "transport": "ftp"}, "transport must be"),
        ],
    )
    def test_wrong_arguments(self, arguments, reason):
        """Each is refused by the constructor, with what to pass."""
        with pytest.raises(SignatureError, match=reason):
            MCP(**arguments)

    def test_a_program_that_does_not_exist(self):
        """The error names it."""
        with pytest.raises(ToolServerError, match="there is no program 'no-such-program'"):
            MCP(["no-such-program"]).start()

    def test_the_tools_to_offer(self):
        """`only` picks some by their own names, and refuses a name that the server does not have."""
        with odd("parts", only=["echo"], prefix="my") as server:
            assert list(server.tools_for()) == ["my_echo"]
        with (
            odd("parts", only=["nothing"]) as server,
            pytest.raises(ToolServerError, match="'nothing'"),
        ):
            server.tools_for()

    def test_a_pickle_has_no_secrets(self, monkeypatch):
        """Variables of `env` are read from the environment again; what is missing is named when the server is needed."""
        server = MCP(["x", "--api-key", KEY], env={"WAREHOUSE_KEY": KEY, "LOG_LEVEL": "debug"})
        packed = pickle.dumps(server)
        assert KEY.encode() not in packed
        assert KEY not in repr(server)
        monkeypatch.setenv("WAREHOUSE_KEY", "of the environment")
        again = pickle.loads(packed)
        assert again.env == {"WAREHOUSE_KEY": "of the environment", "LOG_LEVEL": "debug"}
        with pytest.raises(ToolServerError, match="command"):
            again.start()

    def test_copies_and_pickles_of_an_rlm(self, play):
        """A copy uses the same server; a pickle can be loaded, and starts its own."""
        tools = warehouse()
        rlm, _ = play("q -> a", "SUBMIT('x')", tools=[tools], pool=None)
        assert copy.deepcopy(rlm)._config.servers == (tools,)
        again = pickle.loads(pickle.dumps(rlm))
        (server,) = again._config.servers
        assert server.command == SERVER
        assert server.env == {}

    def test_a_fork_has_a_connection_of_its_own(self):
        """A connection belongs to the process that opened it."""
        with odd("parts") as server:
            server.start()
            assert server._connection.is_open
            server._connection._pid += 1
            assert not server._connection.is_open
            assert call(server, "echo", text="x") == "x"

    def test_nothing_is_imported_before_a_server_is_started(self):
        """`dspy_rlm.MCP` itself imports nothing of the `mcp` package."""
        module = Path(dspy_rlm.__file__).parent / "mcp_tools" / "server.py"
        tree = ast.parse(module.read_text("utf-8"))
        at_once = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
        needing = ("connection", "stdio", "http", "tools", "results")
        assert not at_once & {f"dspy_rlm.mcp_tools.{name}" for name in needing}

    @pytest.mark.parametrize("missing", ["mcp", "mcp_types"])
    def test_a_missing_package(self, monkeypatch, missing):
        """The error names the extra, and only where a server is started."""
        monkeypatch.setitem(sys.modules, missing, None)
        monkeypatch.delitem(sys.modules, "dspy_rlm.mcp_tools.connection", raising=False)
        rlm = RLM("q -> a", tools=[MCP(["x"])])
        with pytest.raises(ToolServerError, match=re.escape('pip install "dspy-rlm[mcp]"')):
            rlm(q="")


class TestConfigFiles:
    def test_the_servers_of_a_file(self, tmp_path, monkeypatch):
        """Both kinds are read; disabled ones are left out; names begin with the server where there are several."""
        monkeypatch.setenv("SHOP_TOKEN", KEY)
        monkeypatch.delenv("NOWHERE", raising=False)
        path = tmp_path / "mcp.json"
        servers = {
            "files": {
                "command": "npx",
                "args": ["-y", "a", "${NOWHERE:-/data}", "$HOME"],
                "env": {"N": 1, "ON": True},
            },
            "shop": {
                "type": "http",
                "url": "https://x/mcp",
                "headers": {"Authorization": "Bearer ${env:SHOP_TOKEN}"},
            },
            "old": {"url": "https://x/events", "type": "sse", "disabled": True},
        }
        path.write_text(json.dumps({"mcpServers": servers}))

        files, shop = MCP.from_config(path)

        assert files.command == ["npx", "-y", "a", "/data", "$HOME"]
        assert files.env == {"N": "1", "ON": "true"}
        assert (files.prefix, shop.prefix) == ("files", "shop")
        assert shop.headers == {"Authorization": f"Bearer {KEY}"}
        (old,) = MCP.from_config(path, only=["old"])
        assert (old.transport, old.prefix, old.name) == ("sse", "", "old")

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("{", "not JSON"),
            ("[]", "lists no MCP servers"),
            ('{"mcpServers": {"a": {}}}', "either a command or a url"),
            ('{"mcpServers": {"a": {"command": "x", "url": "y"}}}', "either a command or a url"),
            ('{"mcpServers": {"a": {"command": "x", "envFile": ".env"}}}', "envFile"),
            ('{"mcpServers": {"a": {"command": ["x"]}}}', "command must be a text"),
            ('{"mcpServers": {"a": {"url": "http://x", "type": "ws"}}}', "unknown type 'ws'"),
            (
                '{"mcpServers": {"a": {"command": "${NOT_SET_ANYWHERE}"}}}',
                "needs the variable NOT_SET_ANYWHERE",
            ),
            (
                '{"mcpServers": {"a": {"command": "${input:key}"}}}',
                "not an environment variable",
            ),
        ],
    )
    def test_files_that_cannot_be_used(self, tmp_path, content, reason):
        """The error says what is wrong and where."""
        path = tmp_path / "mcp.json"
        path.write_text(content)
        with pytest.raises(SignatureError, match=reason):
            MCP.from_config(path)

    def test_unknown_servers_and_missing_files(self, tmp_path):
        """Each is named."""
        path = tmp_path / "mcp.json"
        with pytest.raises(SignatureError, match="cannot be read"):
            MCP.from_config(path)
        path.write_text('{"servers": {"a": {"command": "x"}}}')
        with pytest.raises(SignatureError, match=r"no MCP server 'b'\. It has: a"):
            MCP.from_config(path, only=["b"])

    def test_only_marked_variables_are_expanded(self, monkeypatch):
        """A text without `${...}` stays as it is."""
        monkeypatch.setenv("A", "1")
        assert expanded("$A ${A} ${A:-2} ${B_:-} ${unfinished", "x") == "$A 1 1  ${unfinished"
