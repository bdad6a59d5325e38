"""Records of runs from the parts that other systems log."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from dspy_rlm.journal.errors import MissingValueError
from dspy_rlm.journal.records import (
    AttemptRecord,
    CallRecord,
    FieldRecord,
    RunRecord,
    SignatureRecord,
    StepRecord,
    ValueRecord,
)


@dataclasses.dataclass(frozen=True)
class PlainPrompt:
    """A prompt that is in memory."""

    content: tuple[Mapping[str, Any], ...]

    def messages(self) -> list[dict[str, Any]]:
        """See `Prompt`."""
        return [dict(message) for message in self.content]

    def text(self) -> str:
        """See `Prompt`."""
        return "\n\n".join(f"[{m.get('role', '')}]\n{m.get('content', '')}" for m in self.content)


class PlainReader:
    """The values of a log, which are in its records; none is stored beside it."""

    def text(self, sha256: str) -> str:
        """See `Reader`."""
        raise MissingValueError(f"The log has no text with the digest {sha256}.")

    def data(self, sha256: str) -> bytes:
        """See `Reader`."""
        raise MissingValueError(f"The log has no value with the digest {sha256}.")

    def restore(self, record: ValueRecord) -> Any:
        """See `Reader`."""
        if record.kind == "not_stored":
            raise MissingValueError(record.note)
        return record.data


def prompt_of(prompt: Any) -> PlainPrompt:
    """Returns a prompt: messages, or anything else as one message of the user."""
    if isinstance(prompt, list) and prompt and all(isinstance(one, dict) for one in prompt):
        return PlainPrompt(tuple(prompt))
    if prompt is None:
        return PlainPrompt(())
    content = prompt if isinstance(prompt, str) else repr(prompt)
    return PlainPrompt(({"role": "user", "content": content},))


def call_of(
    *,
    call_id: str,
    run_id: str,
    seq: int,
    iteration: int,
    parent_call: str | None,
    kind: str,
    model: str,
    depth: int,
    prompt: PlainPrompt,
    reply: str | None,
    attempt: AttemptRecord,
) -> CallRecord:
    """Returns an LM call of one attempt."""
    digest = hashlib.sha256(f"{kind}\n{model}\n{prompt.text()}".encode("utf-8", "replace"))
    return CallRecord(
        seq=seq,
        call_id=call_id,
        run_id=run_id,
        iteration=iteration,
        parent_call=parent_call,
        kind=kind,
        model=model,
        depth=depth,
        digest=digest.hexdigest()[:32],
        prompt=prompt,
        options={},
        attempts=(attempt,),
        outputs=None if reply is None else (reply,),
        started_at=attempt.started_at,
    )


def text_value(text: str) -> ValueRecord:
    """Returns the record of a text."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return ValueRecord("text", "str", "builtins.str", digest, len(text), text)


def json_value(value: Any) -> ValueRecord:
    """Returns the record of JSON data."""
    if isinstance(value, str):
        return text_value(value)
    return ValueRecord("json", "Any", type(value).__qualname__, data=value)


def run_of(
    *,
    system: str,
    path: str,
    run_id: str,
    steps: Sequence[StepRecord],
    started_at: float,
    config: Mapping[str, Any],
    context: ValueRecord,
    outputs: Mapping[str, ValueRecord] | None,
    ended: Mapping[str, Any] | None,
    parent_run: str | None = None,
    parent_call: str | None = None,
    depth: int = 0,
) -> RunRecord:
    """Returns a run of another system: its task is `context -> answer`."""
    return RunRecord(
        format=system,
        version=1,
        path=path,
        run_id=run_id,
        parent_run=parent_run,
        parent_call=parent_call,
        depth=depth,
        started_at=datetime.fromtimestamp(started_at, UTC),
        signature=SignatureRecord(
            "", (FieldRecord("context", "Any"),), (FieldRecord("answer", "Any"),)
        ),
        config=config,
        inputs={"context": context},
        steps=tuple(steps),
        ended=ended,
        outputs=outputs,
        reader=PlainReader(),
    )
