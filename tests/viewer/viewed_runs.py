"""Journals for the tests of the viewer, written event by event: no sandbox and no LM is needed."""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dspy_rlm.journal import load
from dspy_rlm.viewer import document as doc
from dspy_rlm.viewer.bundle import Bundle
from dspy_rlm.viewer.journals import document_of, journal_view
from dspy_rlm.viewer.page import page
from dspy_rlm.viewer.texts import Texts

START = 1_800_000_000.0

# A bundle that is no real one: what is in the page's document and outline does not depend on it.
NO_SCRIPT = Bundle("void 0", "main{}", "")


class Lines:
    """A journal that is being written."""

    def __init__(self, path: Path, run: str = "r") -> None:
        self.path = path
        self.now = START
        self._seq = 0
        self._values = path.with_suffix(".values")
        # Each line is written at once, as a journal's is.
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        weakref.finalize(self, os.close, self._file)
        self.add("journal", format="dspy-rlm.journal", version=1, run=run)

    def add(self, event: str, **fields: Any) -> None:
        """Writes an event, a tenth of a second after the one before."""
        line = {"seq": self._seq, "t": round(self.now, 3), "e": event, **fields}
        os.write(self._file, f"{json.dumps(line)}\n".encode())
        self._seq += 1
        self.now += 0.1

    def stored(self, text: str) -> Any:
        """Returns a text as a journal has it: long ones beside it."""
        if len(text) <= 2048:
            return text
        data = text.encode()
        digest = hashlib.sha256(data).hexdigest()
        self._values.mkdir(exist_ok=True)
        (self._values / digest).write_bytes(data)
        return {"$value": digest, "chars": len(text)}

    def text_value(self, text: str) -> dict[str, Any]:
        """Returns the record of an input or an output that is a text."""
        return {
            "kind": "text",
            "type": "builtins.str",
            "size": len(text),
            "data": self.stored(text),
        }

    def json_value(self, value: Any) -> dict[str, Any]:
        """Returns the record of an input or an output that is JSON data."""
        data = json.dumps(value)
        return {"kind": "json", "type": "x", "size": len(data), "data": self.stored(data)}

    def run(
        self,
        run: str = "r",
        *,
        inputs: Any = None,
        outputs: Sequence[str] = ("answer",),
        **more: Any,
    ) -> None:
        """Writes the beginning of a run."""
        inputs = {"page": "A page."} if inputs is None else inputs
        signature = {
            "instructions": more.pop("instructions", "Answer."),
            "inputs": [{"name": name, "annotation": "str"} for name in inputs],
            "outputs": [{"name": name, "annotation": "str"} for name in outputs],
        }
        values = {
            name: self.text_value(value) if isinstance(value, str) else self.json_value(value)
            for name, value in inputs.items()
        }
        self.add(
            "run", run=run, depth=more.pop("depth", 0), started=self.now, signature=signature,
            config=more.pop("config", {}), inputs=values, **more,
        )  # fmt: skip

    def call(
        self, call: str, it: int | None, prompt: Any, reply: str | None, *, run: str = "r", kind: str = "action",
        seconds: float = 0.5, **more: Any,
    ) -> None:  # fmt: skip
        """Writes a call with its attempt; without a reply, it is under way."""
        at = {} if it is None else {"it": it}
        messages = (
            [{"role": "user", "content": self.stored(prompt)}]
            if isinstance(prompt, str)
            else prompt
        )
        start = {
            key: more.pop(key)
            for key in ("parent_call", "after", "digest", "depth", "options")
            if key in more
        }
        began = self.now
        self.add(
            "call", run=run, **at, call=call, kind=kind, model=more.pop("model", "m"), prompt=messages,
            **{"digest": call, "depth": 0, **start},
        )  # fmt: skip
        if reply is not None:
            self.now = max(self.now, began + seconds)
            facts = {
                "in": 30,
                "out": 3,
                "cost": 0.5,
                "chars": [100, 10, 10],
                "finish": "stop",
                **more,
            }
            self.add(
                "attempt",
                run=run,
                call=call,
                started=began,
                seconds=seconds,
                outputs=[self.stored(reply)],
                **facts,
            )

    def cell(
        self, it: int, code: str, output: str, *, run: str = "r", shown: str | None = None, outcome: str = "completed",
        seconds: float = 0.2, **more: Any,
    ) -> None:  # fmt: skip
        """Writes the rest of a step: the action, the cell, and what was seen of it."""
        began = more.pop("started", self.now)
        self.add(
            "action", run=run, it=it, reasoning=more.pop("reasoning", "why"), code=self.stored(code)
        )
        self.add(
            "cell", run=run, it=it, code=self.stored(code), outcome=outcome, output=self.stored(output),
            started=began, seconds=seconds, **more,
        )  # fmt: skip
        self.add(
            "step", run=run, it=it, number=it, shown=self.stored(output if shown is None else shown)
        )

    def step(self, it: int, code: str, output: str, *, run: str = "r", **more: Any) -> None:
        """Writes a step with its call of the root LM."""
        self.add("iteration", run=run, it=it)
        self.call(f"{run}:{it}", it, f"Turn {it}. {'x' * 300}", f"code {it}", run=run)
        self.cell(it, code, output, run=run, **more)

    def end(self, run: str = "r", *, outputs: Any = None, **report: Any) -> None:
        """Writes the end of a run."""
        values = {
            name: self.text_value(value) if isinstance(value, str) else self.json_value(value)
            for name, value in (outputs or {}).items()
        }
        facts = {"status": "submitted", "stopped_by": "SUBMIT", **report}
        self.add("end", run=run, report=facts, outputs=values)


def texts_and_document(*paths: Path, redact: bool = False) -> tuple[Texts, doc.ViewDocument]:
    """Returns the document of journals, and its texts."""
    texts = Texts(redact=redact)
    views = []
    for path in paths:
        views.append(journal_view(load(path), texts))
    return texts, document_of(views, texts, written_by="dspy-rlm 1.2.3")


def page_of(*paths: Path, redact: bool = False, bundle: Bundle = NO_SCRIPT) -> str:
    """Returns the page of journals."""
    texts, document = texts_and_document(*paths, redact=redact)
    return page(document, texts, bundle)
