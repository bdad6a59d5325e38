"""Counts the turns and requests that the form of a reply costs: `python -m benchmarks.turns`.

Every form of `reply_forms.py` is the first reply of the root LM of a run, over HTTP; every later reply submits
correctly. Our RLM, `dspy.RLM` (with our sandbox as its interpreter) and, where it is installed, `rlms` (the RLM paper's own
implementation) are run on each. A turn is lost if the program of the form never ran: its output is in no later prompt.
A request is lost if neither the program nor the answer came of it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import logging
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.reply_forms import REAL_REPLIES, forms, real_forms, shows_output, submitting
from benchmarks.reply_parts import Form
from benchmarks.scripted_lm import root_lm

# A run ends after so many turns.
MAX_TURNS = 4

# One in so many of the real replies without code is played, unless `--replies` names their file.
REAL_WITHOUT_CODE = 10

# The reply that ends a run of `rlms`.
ANSWERING = 'I answer.\n```repl\nanswer["content"] = "done"\nanswer["ready"] = True\n```'


class Run(NamedTuple):
    """The result of one run."""

    requests: int
    is_understood: bool
    """True if a later prompt shows the output of the program."""
    answer: str
    """The answer of the run; empty if it failed."""


class Lost(NamedTuple):
    """The cost of the forms of a kind."""

    forms: int = 0
    turns: int = 0
    requests: int = 0
    runs: int = 0
    wrong: int = 0

    def plus(self, form: Form, run: Run) -> Lost:
        """Returns the sum with one run."""
        is_lost = form.runs and not run.is_understood
        # Without a program, the turn of the form is lost for everyone and counts for none.
        needed = 0 if not run.answer else 1 if is_lost else 2
        return Lost(
            self.forms + 1,
            self.turns + is_lost,
            self.requests + max(run.requests - needed, 0),
            self.runs + (not run.answer),
            self.wrong + (run.answer not in ("", "done")),
        )


class Server:
    """Plays the root LMs: the model `system-number` replies with the form of that number."""

    def __init__(self, corpus: Sequence[Form]) -> None:
        self.corpus = corpus
        self.requests: Counter[str] = Counter()
        self.understood: set[str] = set()
        self._lock = threading.Lock()  # guards both

    def reply(self, request: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Returns the message, and the reason for its end."""
        model = str(request["model"])
        system, _, number = model.rpartition("-")
        form = self.corpus[int(number)]
        prompts = "\n".join(
            _text(one["content"]) for one in request["messages"] if one["role"] != "assistant"
        )
        with self._lock:
            self.requests[model] += 1
            is_first = self.requests[model] == 1
            if shows_output(form, prompts):
                self.understood.add(model)
        if is_first:
            message = dict(form.message)
            if system == "rlms" and form.kind != "label" and isinstance(message["content"], str):
                # Its prompt asks for blocks with this label.
                message["content"] = message["content"].replace("```python", "```repl")
            return message, "length" if form.is_cut else "stop"
        if system == "rlms":
            return {"content": ANSWERING}, "stop"
        is_json = "response_format" in request or "JSON object" in prompts[-3000:]
        return {"content": submitting(is_json=is_json)}, "stop"


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content or ())


@contextlib.contextmanager
def serving(server: Server) -> Iterator[str]:
    """Serves OpenAI's chat API on a local port; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            message, reason = server.reply(request)
            body = {
                "id": "1",
                "object": "chat.completion",
                "created": 1,
                "model": request["model"],
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": reason,
                        "message": {"role": "assistant", **message},
                    }
                ],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}/v1"
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


# ---- The systems ----


def _run_dspy(build: Callable[[], Any], url: str, model: str) -> str:
    try:
        with root_lm(url, model):
            return str(build()(question="What is the value?").answer)
    except Exception:  # noqa: BLE001  the run is lost, for whatever reason
        return ""


def run_ours(url: str, model: str) -> str:
    """Returns the answer of our RLM."""
    from dspy_rlm import RLM

    return _run_dspy(lambda: RLM("question -> answer", max_iterations=MAX_TURNS), url, model)


def run_peer(url: str, model: str) -> str:
    """Returns the answer of DSPy's RLM."""
    import dspy

    from dspy_rlm import SandboxInterpreter

    def build() -> Any:
        return dspy.RLM(
            "question -> answer", max_iters=MAX_TURNS, interpreter_factory=SandboxInterpreter
        )

    return _run_dspy(build, url, model)


def run_rlms(url: str, model: str) -> str:
    """Returns the answer of the RLM paper's own implementation."""
    from rlm import RLM

    options = {"model_name": model, "base_url": url, "api_key": "none"}
    try:
        rlm = RLM(backend="openai", backend_kwargs=options, max_iterations=MAX_TURNS)
        return str(rlm.completion("What is the value?").response)
    # It runs code in its own process, so `exit()` in a cell raises SystemExit here.
    except (Exception, SystemExit):  # noqa: BLE001  the run is lost, for whatever reason
        return ""


SYSTEMS = {"ours": run_ours, "dspy.RLM": run_peer, "rlms": run_rlms}


def measure(system: str, server: Server, url: str, threads: int, python: Path | None) -> list[Run]:
    """Returns the runs of a system on all forms."""
    models = [f"{system}-{number}" for number in range(len(server.corpus))]
    if python is not None:
        command = [str(python), "-m", "benchmarks.turns", "--client", system, url, str(len(models))]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]
        )
        answers = json.loads(done.stdout.splitlines()[-1])
    else:
        with ThreadPoolExecutor(threads) as pool:
            answers = list(pool.map(lambda model: SYSTEMS[system](url, model), models))
    return [
        Run(server.requests[model], model in server.understood, answer)
        for model, answer in zip(models, answers, strict=True)
    ]


def table(corpus: Sequence[Form], runs: dict[str, list[Run]]) -> str:
    """Returns the table of losses by kind, in Markdown."""
    kinds: dict[str, dict[str, Lost]] = defaultdict(lambda: dict.fromkeys(runs, Lost()))
    for system, results in runs.items():
        for form, run in zip(corpus, results, strict=True):
            for kind in (form.kind, "all"):
                kinds[kind][system] = kinds[kind][system].plus(form, run)
    rows = [
        "| kind | forms | "
        + " | ".join(f"{system}: turns, requests, runs" for system in runs)
        + " |",
        "|---|---|" + "---|" * len(runs),
    ]
    for kind in [*dict.fromkeys(form.kind for form in corpus), "all"]:
        cells = [f"{one.turns}, {one.requests}, {one.runs}" for one in kinds[kind].values()]
        count = next(iter(kinds[kind].values())).forms
        rows.append(f"| {kind} | {count} | " + " | ".join(cells) + " |")
    wrong = ", ".join(f"{system} {one.wrong}" for system, one in kinds["all"].items())
    return "\n".join([*rows, "", f"Runs that ended with an answer that was only quoted: {wrong}."])


def main() -> int:
    """Runs the systems and prints the table. Exits with 1 if ours loses more than a tenth of DSPy's."""
    if sys.argv[1:2] == ["--client"]:
        _, _, system, url, count = sys.argv
        with contextlib.redirect_stdout(sys.stderr):
            answers = [SYSTEMS[system](url, f"{system}-{n}") for n in range(int(count))]
        print(json.dumps(answers))
        return 0
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turns", description=__doc__)
    parser.add_argument("--only", action="append", help="a kind of forms; may be repeated")
    parser.add_argument("--threads", type=int, default=4, help="runs at once (4)")
    parser.add_argument("--ours-only", action="store_true", help="without the peers")
    parser.add_argument("--every", type=int, default=1, help="each form of that many only (1)")
    parser.add_argument("--names", action="store_true", help="name the forms that ours loses")
    parser.add_argument(
        "--replies",
        type=Path,
        help="a file of real replies, like that of the tests; all are played",
    )
    parser.add_argument("--rlms-python", type=Path, help="the Python in which rlms is installed")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    every = [*forms(), *real_forms(options.replies or REAL_REPLIES)]
    if options.replies is None:
        # Most of the real replies have no code: one in so many of those is enough.
        bare = [form for form in every if form.kind == "real model" and not form.runs]
        every = [form for form in every if form not in bare] + bare[::REAL_WITHOUT_CODE]
    corpus = [form for form in every if not options.only or form.kind in options.only]
    corpus = corpus[:: options.every]
    server = Server(corpus)
    with serving(server) as url:
        systems = ["ours"] if options.ours_only else ["ours", "dspy.RLM"]
        has_rlms = options.rlms_python or importlib.util.find_spec("rlm")
        systems += ["rlms"] if has_rlms and not options.ours_only else []

        def of(system: str) -> list[Run]:
            python = options.rlms_python if system == "rlms" else None
            results = measure(system, server, url, options.threads, python)
            print(table(corpus, {system: results}), file=sys.stderr, flush=True)
            return results

        with ThreadPoolExecutor(len(systems)) as pool:
            runs = dict(zip(systems, pool.map(of, systems), strict=True))
    print(table(corpus, runs))
    if options.names:
        for form, run in zip(corpus, runs["ours"], strict=True):
            if (form.runs and not run.is_understood) or run.answer != "done":
                print(f"lost by ours: {form.kind}: {form.name}")
    losses = {
        system: sum(
            (Lost().plus(form, run).requests for form, run in zip(corpus, results, strict=True)), 0
        )
        for system, results in runs.items()
    }
    return int("dspy.RLM" in losses and losses["ours"] * 10 > losses["dspy.RLM"])


if __name__ == "__main__":
    sys.exit(main())
