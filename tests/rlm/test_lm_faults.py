"""docs/faults.md: each row of its tables, played by a real HTTP server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import dspy
import pytest

import dspy_rlm
from dspy_rlm import RLM, RunFailedError, RunPausedError
from dspy_rlm.testing import Action, Fault, PolicyServer, asks_for, fields, route, scripted

PAGE = (Path(__file__).parents[2] / "docs" / "faults.md").read_text("utf-8")

HTML = "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>nginx</body></html>"
KEY = {"error": {"message": "Incorrect API key provided: sk-x.", "code": "invalid_api_key"}}
FILTER = {
    "error": {"message": "The response was filtered due to the prompt.", "code": "content_filter"}
}
WINDOW = {"error": {"message": "too long", "code": "context_length_exceeded"}}

LATER = "after 1, 2, 4 ... seconds"
PAUSES, ENDS = "pauses the run", "ends the run"


def reply(content: str | None, reason: str = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion, as the body of an answer with status 200."""
    message = {"role": "assistant", "content": content, **message}
    body = {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
    }
    return {"status": 200, "body": json.dumps(body)}


class Row(NamedTuple):
    """A row of the first table, and the fault that it is about."""

    what: str
    sub: str
    root: str
    again: str
    fault: dict[str, Any]


def cell(error: str) -> str:
    """An exception in the cell, as the page writes it."""
    return f"`{error}` in the cell"


NO_HINT = {"retry_after_seconds": None}
FILTERED, CUT = reply("", "content_filter"), reply("Half of", "length")
REFUSED = reply(None, refusal="I cannot help with that.")
ROWS = [
    Row("429 with `Retry-After`", cell("LMRateLimitError"), PAUSES, "after that time", {"status": 429, "retry_after_seconds": 0.01}),
    Row("429 without it", cell("LMRateLimitError"), PAUSES, LATER, {"status": 429, **NO_HINT}),
    Row("500", cell("LMServerError"), PAUSES, LATER, {"status": 500}),
    Row("503", cell("LMServerError"), PAUSES, LATER, {"status": 503}),
    Row("404 from a gateway, as a page", PAUSES, PAUSES, LATER, {"status": 404, "body": HTML}),
    Row("404 from a gateway, without words", PAUSES, PAUSES, LATER, {"status": 404, "body": ""}),
    Row("nothing within `timeout=`", cell("LMTimeoutError"), PAUSES, LATER, {"delay_seconds": 30}),
    Row("a dropped connection", cell("LMTransportError"), PAUSES, LATER, {"drop_connection": True}),
    Row("a reply that breaks off", cell("LMTransportError"), PAUSES, LATER, {"cut_off": True}),
    Row("a reply that is not JSON", cell("LMServerError"), PAUSES, LATER, {"malformed_body": True}),
    Row("an empty reply", cell("SubCallError"), "asked again: `empty`", "no", reply("")),
    Row("a reply that a content filter has withheld", cell("SubCallError"), "asked again: `filtered`", "no", FILTERED),
    Row("a part of a reply, then a content filter", cell("SubCallError"), "asked again: `filtered`", "no", reply("Half of", "content_filter")),
    Row("a prompt that a content filter refuses", cell("LMInvalidRequestError"), ENDS, "no", {"status": 400, "body": json.dumps(FILTER)}),
    Row("a refusal", cell("SubCallError"), "asked again: `refused`", "no", REFUSED),
    Row('a reply cut at its limit of tokens (`finish_reason="length"`)', "an answer with `.cut`", "asked again: `cut_off`", "no", CUT),
    Row("a wrong key", ENDS, ENDS, "no", {"status": 401, "body": json.dumps(KEY)}),
    Row("a prompt longer than the context window", cell("ContextWindowExceededError"), "shortened and sent again", "no", {"status": 400, "body": json.dumps(WINDOW)}),
]  # fmt: skip

SHOW = (
    "try:\n    x = sub_llm('x')\n    print('ANSWER', x.cut)\n"
    "except Exception as e:\n    print(type(e).__name__, e)"
)


def table(columns: int, first: str) -> list[tuple[str, ...]]:
    """The rows of the page's table whose head begins so."""
    lines = PAGE.partition(f"| {first} |")[2].partition("\n\n")[0].splitlines()[2:]
    rows = [tuple(part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]) for line in lines]
    assert all(len(row) == columns for row in rows)
    return rows


def play(pool: Any, *cells: str, who: str, fault: Fault, retries: int = 0) -> tuple[Any, int]:
    """The prediction of a run, or the error that ended it, and the number of requests to the LM with the fault."""
    moves = scripted(*(Action("", code) for code in cells))
    player = route((asks_for("code"), moves), otherwise=fields(lambda _: {"a": "extracted"}))
    options = {"num_retries": retries, **({"timeout": 0.3} if fault.delay_seconds else {})}
    with PolicyServer({"root": player, "sub": lambda _: "fine"}) as server:
        server.fail(who, fault)
        with dspy.context(lm=server.lm("root", **options), adapter=dspy.ChatAdapter()):
            rlm = RLM("q -> a", sub_lm=server.lm("sub", **options), pool=pool, max_iterations=3)
            try:
                result = rlm(q="")
            except RunFailedError as error:
                result = error
        return result, len(server.requests_to(who))


def test_the_page_has_these_rows():
    """The first table is that of these rows: each of it is tested, and each tested one is in it."""
    assert table(4, "a server answers") == [tuple(row[:4]) for row in ROWS]


@pytest.mark.parametrize("row", ROWS, ids=[row.what for row in ROWS])
class TestFaults:
    @pytest.mark.sampled(8)
    def test_of_a_sub_lm(self, row, kept):
        """A fault of each request: what code sees, or how the run ends. Code that catches it can go on."""
        fault = Fault(**row.fault, times=None)
        result, requests = play(kept, SHOW, "SUBMIT('done')", who="sub", fault=fault)

        if row.sub in (PAUSES, ENDS):
            assert type(result) is (RunPausedError if row.sub == PAUSES else RunFailedError)
            assert result.run.stopped_by == type(result.__cause__).__name__
        else:
            assert result.a == "done"
            name = "ANSWER True" if row.sub.startswith("an answer") else row.sub.split("`")[1]
            assert result.run.steps[0].output.startswith(name)
        assert requests == (0 if fault.delay_seconds else 1)

    @pytest.mark.sampled(8)
    def test_of_the_root_lm(self, row, kept):
        """A fault of the second turn: the run ends with what it has, or the LM is asked again with the reason."""
        once = row.root.startswith(("asked", "shortened"))
        fault = Fault(**row.fault, times=1 if once else None, after=1)
        cells = "print('1' * 3000)", "SUBMIT('done')", "SUBMIT('done')"
        result, _ = play(kept, *cells, who="root", fault=fault)

        if once:
            assert result.a == "done"
            lost = re.findall("`(.*)`", row.root)
            assert result.run.turns_lost == dict.fromkeys(lost, 1)
            assert result.run.overflows == (not lost)
        else:
            assert type(result) is (RunPausedError if row.root == PAUSES else RunFailedError)
            assert ("rlm.resume(" in str(result)) == (row.root == PAUSES)
            assert [step.output for step in result.run.steps] == ["1" * 3000]


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.again != "no"], ids=lambda row: row.what
)
def test_a_fault_of_a_moment(row, kept):
    """It is gone at the next try, and each try is counted."""
    fault = Fault(**row.fault, times=1)
    result, _ = play(kept, SHOW, "SUBMIT('done')", who="sub", fault=fault, retries=1)

    assert result.run.steps[0].output == "ANSWER False"
    assert [bool(call.error) for call in result.run.sub_calls] == [True, False]


def test_a_turn_that_failed_is_counted(kept):
    """A request of the root LM that was sent again is in `run.retries`, and costs no turn."""
    result, requests = play(
        kept, "SUBMIT('done')", who="root", fault=Fault(status=404, body=HTML), retries=1
    )

    assert (result.a, result.run.retries, result.run.iterations, requests) == ("done", 1, 1, 2)


TYPED = {
    "a reply cut at its limit of tokens": reply("[[ ## n ## ]]\n1", "length"),
    "an empty reply": reply(""),
    "a reply that does not fit the types": reply("[[ ## n ## ]]\nmany\n\n[[ ## completed ## ]]"),
    "a refusal": REFUSED,
    "a reply that a content filter has withheld": FILTERED,
}


@pytest.mark.parametrize("row", table(4, "a sub-LM answers"), ids=lambda row: row[0])
def test_of_a_typed_call(row, kept):
    """The requests of `predict` for a fault of each reply, and what the second one says."""
    what, says, requests, ends = row
    fault = Fault(**TYPED[what], times=None)
    code = "r = predict_batched('t -> n: int', ['x'])\nprint(type(r[0]).__name__)"
    moves = scripted(Action("", code), Action("", "SUBMIT('done')"))
    with PolicyServer({"root": moves, "sub": lambda _: "fine"}) as server:
        server.fail("sub", fault)
        with dspy.context(lm=server.lm("root"), adapter=dspy.ChatAdapter()):
            result = RLM("q -> a", sub_lm=server.lm("sub"), pool=kept)(q="")
        prompts = [exchange.prompt for exchange in server.requests_to("sub")]

    assert result.run.steps[0].output.startswith(ends.strip("`"))
    assert len(prompts) == int(requests)
    assert says == "nothing" or says in prompts[1]


def test_every_typed_row_is_played():
    """The second table has the rows of the faults above."""
    assert [row[0] for row in table(4, "a sub-LM answers")] == list(TYPED)


def test_the_limits_of_the_page_are_accepted():
    """The page's example of `configure` runs."""
    example = next(
        e for e in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "configure" in e
    )
    try:
        exec(example, {})
    finally:
        dspy_rlm.configure(limits_per_model=None)


def test_a_policy_that_ends_early_is_a_mistake_of_the_program(play):
    """Nobody waits for a server: the error says what the policy lacks."""
    with PolicyServer({"root": scripted(Action("", "x = 1"))}) as server:
        rlm, _ = play("q -> answer", max_iterations=1)
        with (
            dspy.context(lm=server.lm("root")),
            pytest.raises(
                RunFailedError, match="no move of the policy has called SUBMIT"
            ) as caught,
        ):
            rlm(q="?")

    assert not isinstance(caught.value, RunPausedError)
    assert "could not be reached" not in str(caught.value)
