"""A web service over one corpus: answers are streamed as server-sent events while the run goes on.

    python examples/service.py                 # starts it, asks one question, prints the events, and stops
    python examples/service.py --serve 8000    # serves until Ctrl-C: POST /ask {"question": "..."}

Needs FastAPI and uvicorn. `streamlit run examples/page.py` is a page for it. Scripted policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import argparse
import json
import socket
import threading
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pydoc_data.topics import topics as manual

import dspy
import pydantic
import uvicorn
from dspy.streaming import StatusMessage
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

import dspy_rlm
from dspy_rlm.testing import Action, choose_models, policy, rules


class Question(pydantic.BaseModel):
    """The body of a request."""

    question: str = pydantic.Field(min_length=1, max_length=2_000)


@policy
def root(task):
    """Plays the root LM."""
    yield Action(
        "Which sections have the word?",
        "import re\nword = re.search(r'`(\\w+)`', question)[1]\n"
        "hits = sorted(manual, key=lambda t: -manual[t].count(word))[:3]\nprint(hits)",
    )
    yield Action(
        "The sub-LM reads the first.",
        "summary = sub_llm(f'{question}\\n{manual[hits[0]][:2000]}')\nprint(summary)",
    )
    yield Action("Answer.", "SUBMIT(answer=summary, sections=hits)")


sub = rules([(r"\n([A-Z][^.]+\.)\s", lambda match: " ".join(match[1].split()))], default="unknown")


def create_app() -> FastAPI:
    """Returns the service. All requests share one pool of four warm sandboxes; a client that leaves cancels its run."""
    models = choose_models(root, sub)
    pool = dspy_rlm.Pool(4, max_sessions=8)
    rlm = dspy_rlm.RLM(
        "manual: dict[str, str], question -> answer: str, sections: list[str]",
        sub_lm=models.sub,
        pool=pool,
        max_iterations=8,
        max_llm_calls=20,
        max_seconds=120,
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        pool.close()

    app = FastAPI(lifespan=lifespan)

    async def events(question: str) -> AsyncIterator[str]:
        """Yields one event for each step of the run, and the answer or the error as the last one."""
        with dspy.context(lm=models.root):
            program = dspy.streamify(rlm, is_async_program=True)
            try:
                async for item in program(manual=dict(manual), question=question):
                    if isinstance(item, StatusMessage):
                        yield f"data: {json.dumps({'status': item.message})}\n\n"
                    elif isinstance(item, dspy.Prediction):
                        answer = {
                            "answer": item.answer,
                            "sections": item.sections,
                            "cost": item.run.cost,
                        }
                        yield f"data: {json.dumps(answer)}\n\n"
            except dspy_rlm.RunFailedError as error:
                yield f"data: {json.dumps({'error': type(error).__name__, 'stopped_by': error.run.stopped_by})}\n\n"

    @app.post("/ask")
    async def ask(body: Question) -> StreamingResponse:
        return StreamingResponse(events(body.question), media_type="text/event-stream")

    return app


def read_events(port: int, question: str) -> list[dict]:
    """Returns the events of one request."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/ask",
        data=json.dumps({"question": question}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        return [json.loads(line[6:]) for line in response if line.startswith(b"data: ")]


def main() -> None:
    """Serves, or starts the service for one question."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--serve", type=int, metavar="PORT")
    options = parser.parse_args()
    if options.serve is not None:
        uvicorn.run(create_app(), host="127.0.0.1", port=options.serve)
        return
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        events = read_events(listener.getsockname()[1], "What is a `generator`?")
    finally:
        server.should_exit = True
        thread.join()
    for event in events:
        print(json.dumps(event))
    assert "answer" in events[-1]


if __name__ == "__main__":
    main()
