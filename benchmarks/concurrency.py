"""Measures how close a batch of sub-calls comes to the time that its server needs: ours beside DSPy's own calls.

A server in a process of its own answers each request after 50 ms. The ideal is that time, once for each round of calls
in flight. A client of plain sockets, which does nothing but send and read, shows what this machine can reach. The processor time of a
call is the figure that a loaded machine does not change much: with it, a batch cannot be faster than all its calls one after the other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

# Otherwise importing DSPy downloads a price list.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import dspy

from dspy_rlm.budget.budget import Budget
from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.limiting.gate import Gates
from dspy_rlm.lms.sub_lms import Models
from dspy_rlm.repl.sub_llm import make_queries
from dspy_rlm.run_context import RunContext

ANSWER_SECONDS = 0.05

# A name that DSPy's table has, so that its calls are priced as usual; no request leaves this machine.
MODEL = "gpt-4o-mini"


class Measured(NamedTuple):
    """One way to make the calls: the best round."""

    name: str
    wall: float
    processor: float


async def serve() -> None:
    """Answers chat requests, and prints the port first."""
    answer = json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "ok"},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"

    async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await _request(reader):
                await asyncio.sleep(ANSWER_SECONDS)
                writer.write(head.encode() + answer)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(exchange, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


async def _request(reader: asyncio.StreamReader) -> bytes:
    """Reads one request; returns its body, or nothing at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    fields = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    size = next((int(value) for name, _, value in fields if name == b"content-length"), 0)
    return await reader.readexactly(size)


async def plain(port: int, calls: int, concurrency: int) -> None:
    """Sends the requests over as many connections of its own."""
    prompts = iter(range(calls))

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in prompts:
            message = {"role": "user", "content": f"p{number}"}
            body = json.dumps({"model": MODEL, "messages": [message]}).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            json.loads(await _request(reader))
        writer.close()

    await asyncio.gather(*(connection() for _ in range(concurrency)))


async def of_dspy(lm: dspy.LM, calls: int, concurrency: int) -> None:
    """Calls `dspy.LM.acall`."""
    prompts = iter(range(calls))

    async def worker() -> None:
        for number in prompts:
            await lm.acall(f"p{number}")

    await asyncio.gather(*(worker() for _ in range(concurrency)))


def in_threads(lm: dspy.LM, calls: int, concurrency: int) -> None:
    """Calls `dspy.LM` in threads."""
    with ThreadPoolExecutor(concurrency) as threads:
        list(threads.map(lambda number: lm(f"p{number}"), range(calls)))


def ours(lm: dspy.LM, concurrency: int) -> Callable[[int], Any]:
    """Returns a function that sends a batch as `sub_llm_batched` of a run does, without its sandbox."""
    ledger = Ledger(Budget(max_llm_calls=10**9))
    context = RunContext.root(ledger, Models({"": lm}), None, gates=Gates(concurrency))
    batched = make_queries(context)["sub_llm_batched"]
    return lambda calls: batched([f"p{number}" for number in range(calls)])


def best(name: str, rounds: int, run: Callable[[], Any]) -> Measured:
    """Runs it several times; returns the least of each figure, in seconds."""
    walls, processor = [], []
    for _ in range(rounds):
        began, used = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - began)
        processor.append(time.process_time() - used)
    return Measured(name, min(walls), min(processor))


def measure(calls: int, concurrency: int, rounds: int) -> list[Measured]:
    """Measures all ways in one run."""
    command = [sys.executable, "-m", "benchmarks.concurrency", "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())
            address = f"http://127.0.0.1:{port}/v1"
            lm = dspy.LM(f"openai/{MODEL}", api_base=address, api_key="none", cache=False)
            batch = ours(lm, concurrency)
            return [
                best("plain sockets", rounds, lambda: asyncio.run(plain(port, calls, concurrency))),
                best("dspy.LM.acall", rounds, lambda: asyncio.run(of_dspy(lm, calls, concurrency))),
                best("dspy.LM in threads", rounds, lambda: in_threads(lm, calls, concurrency)),
                best("sub_llm_batched", rounds, lambda: batch(calls)),
            ]
        finally:
            server.kill()


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve())
        return
    ideal = math.ceil(options.calls / options.concurrency) * ANSWER_SECONDS
    sys.stdout.write(f"ideal: {ideal * 1000:.0f} ms; load: {os.getloadavg()[0]:.1f}\n")
    for one in measure(options.calls, options.concurrency, options.rounds):
        sys.stdout.write(
            f"{one.name:<20} {one.wall * 1000:6.0f} ms, {one.wall / ideal:.2f} times the ideal; "
            f"{one.processor / options.calls * 1e6:5.0f} µs of processor time for a call\n"
        )


if __name__ == "__main__":
    main()
