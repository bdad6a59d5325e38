"""Compares DSPy's optimizers on our RLM and on `dspy.RLM`: `python -m benchmarks.optimizers`.

This measures plumbing: whether an optimizer's text or demo reaches the LM, whether the contract is then still in the
prompt, and whether a saved program scores the same after loading. The LMs are scripts (see `counting.py`), so no score here
is the accuracy of an LM. Both sides run their cells in our sandbox.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dspy

from benchmarks.counting import COUNT, DEVSET, TRAINSET, WAVERING, make_server, metric, score
from dspy_rlm import RLM, SandboxInterpreter
from dspy_rlm.testing import PolicyServer

Compile = Callable[[dspy.Module, PolicyServer], dspy.Module]


def _gepa(proposal: str, selector: str = "round_robin") -> Compile:
    def compile_it(student: dspy.Module, server: PolicyServer) -> dspy.Module:
        optimizer = dspy.GEPA(
            metric=metric,
            max_metric_calls=8,
            reflection_lm=server.lm(proposal),
            reflection_minibatch_size=2,
            component_selector=selector,
            num_threads=1,
        )
        return optimizer.compile(student, trainset=TRAINSET[:2], valset=DEVSET)

    return compile_it


def make_mipro(server: PolicyServer, demos: int, threads: int) -> dspy.MIPROv2:
    """Creates MIPROv2 with the proposer that replaces instructions, and with that many demonstrations."""
    return dspy.MIPROv2(
        metric=metric,
        prompt_model=server.lm("replace"),
        task_model=server.lm("root"),
        auto=None,
        num_candidates=2,
        max_bootstrapped_demos=demos,
        max_labeled_demos=demos,
        num_threads=threads,
    )


def _mipro(demos: int) -> Compile:
    def compile_it(student: dspy.Module, server: PolicyServer) -> dspy.Module:
        data = {"trainset": TRAINSET[:2], "valset": DEVSET}
        optimizer = make_mipro(server, demos, threads=1)
        return optimizer.compile(student, **data, num_trials=2, minibatch=False)

    return compile_it


def _bootstrap(student: dspy.Module, server: PolicyServer) -> dspy.Module:
    optimizer = dspy.BootstrapFewShot(metric=metric, max_bootstrapped_demos=2, max_labeled_demos=4)
    return optimizer.compile(student, trainset=TRAINSET)


def _random_search(student: dspy.Module, server: PolicyServer) -> dspy.Module:
    optimizer = dspy.BootstrapFewShotWithRandomSearch(
        metric=metric,
        max_bootstrapped_demos=2,
        max_labeled_demos=2,
        num_candidate_programs=1,
        num_threads=1,
        stop_at_score=100.0,
    )
    return optimizer.compile(student, trainset=TRAINSET, valset=DEVSET)


def _simba(max_demos: int) -> Compile:
    def compile_it(student: dspy.Module, server: PolicyServer) -> dspy.Module:
        optimizer = dspy.SIMBA(
            metric=metric,
            bsize=2,
            num_candidates=2,
            max_steps=1,
            max_demos=max_demos,
            prompt_model=server.lm("replace"),
            num_threads=1,
        )
        return optimizer.compile(student, trainset=WAVERING)

    return compile_it


def _copro(proposal: str) -> Compile:
    def compile_it(student: dspy.Module, server: PolicyServer) -> dspy.Module:
        optimizer = dspy.COPRO(metric=metric, prompt_model=server.lm(proposal), breadth=2, depth=1)
        return optimizer.compile(student, trainset=DEVSET, eval_kwargs={"num_threads": 1})

    return compile_it


def _better_together(student: dspy.Module, server: PolicyServer) -> dspy.Module:
    together = dspy.BetterTogether(
        metric=metric,
        text=dspy.COPRO(metric=metric, prompt_model=server.lm("replace"), breadth=2, depth=1),
        demos=dspy.BootstrapFewShot(metric=metric, max_bootstrapped_demos=1, max_labeled_demos=0),
    )
    student.set_lm(server.lm("root"))
    compiled = together.compile(
        student,
        trainset=TRAINSET,
        valset=DEVSET,
        strategy="text -> demos",
        optimizer_compile_args={"text": {"eval_kwargs": {"num_threads": 1}}},
    )
    if compiled.flag_compilation_error_occurred:
        raise RuntimeError("one of its optimizers failed")
    return compiled


CASES: dict[str, Compile] = {
    "GEPA, appends": _gepa("append"),
    "GEPA, replaces": _gepa("replace"),
    "GEPA, replaces, all components": _gepa("replace", "all"),
    "MIPROv2, no demos": _mipro(0),
    "MIPROv2, demos": _mipro(1),
    "BootstrapFewShot": _bootstrap,
    "BootstrapFewShot, random search": _random_search,
    "SIMBA, rules": _simba(0),
    "SIMBA, rules or demos": _simba(2),
    "COPRO, appends": _copro("append"),
    "COPRO, replaces": _copro("replace"),
    "BetterTogether, COPRO and Bootstrap": _better_together,
}


def ours() -> dspy.Module:
    """Creates our RLM for the task."""
    return RLM(COUNT, max_iterations=3)


def peer() -> dspy.Module:
    """Creates DSPy's RLM for the task, in our sandbox, because its own cannot start on every machine."""
    return dspy.RLM(COUNT, max_iters=3, interpreter_factory=SandboxInterpreter)


@dataclass(frozen=True)
class Row:
    """The effect of an optimizer on one side. Scores are the scripted policy's, in percent."""

    optimizer: str
    side: str
    before: float | None = None
    after: float | None = None
    contract: bool | None = None
    """True if the compiled program's prompt still says how to submit."""

    loaded: float | None = None
    """The score of the saved state in a fresh instance."""

    seconds: float = 0.0
    error: str = ""


def measure(name: str, side: str, make: Callable[[], dspy.Module]) -> Row:
    """Compiles, saves and loads one program."""
    started = time.perf_counter()
    measured: dict[str, Any] = {}
    try:
        with make_server() as server, dspy.context(lm=server.lm("root"), trace=[], num_threads=1):
            _measure(CASES[name], make, server, measured)
    # Any failure of an optimizer is a result.
    except Exception as error:  # noqa: BLE001
        measured["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return Row(name, side, **measured, seconds=time.perf_counter() - started)


def _measure(
    compile_it: Compile,
    make: Callable[[], dspy.Module],
    server: PolicyServer,
    measured: dict[str, Any],
) -> None:
    measured["before"] = score(make())
    compiled = compile_it(make(), server)
    measured["after"] = score(compiled)
    last = server.requests_to("root")[-1].request
    measured["contract"] = last is not None and "SUBMIT(" in last.system
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "compiled.json"
        compiled.save(path)
        loaded = make()
        loaded.load(path)
    loaded.set_lm(None)
    measured["loaded"] = score(loaded)


def table(rows: Sequence[Row]) -> str:
    """Returns the rows in Markdown, one line for each optimizer."""
    sides = list(dict.fromkeys(row.side for row in rows))
    columns = ["before", "after", "contract", "loaded"]
    head = ["optimizer", *(f"{side}: {column}" for side in sides for column in columns)]
    lines = [_line(head), _line(["---"] * len(head))]
    for name in dict.fromkeys(row.optimizer for row in rows):
        own = [row for row in rows if row.optimizer == name]
        lines.append(_line([name, *(cell for row in own for cell in _cells(row))]))
    return "\n".join(lines)


def _cells(row: Row) -> list[str]:
    contract = {None: "-", True: "alive", False: "gone"}[row.contract]
    after = row.error or _number(row.after)
    return [_number(row.before), after, contract, _number(row.loaded)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the output and logs of optimizers."""
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(logging.NOTSET)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs every optimizer on every side and prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.optimizers", description=__doc__)
    parser.add_argument("--ours-only", action="store_true", help="skip dspy.RLM")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--only", action="append", metavar="TEXT", help="only optimizers whose names contain TEXT"
    )
    options = parser.parse_args(arguments)
    sides = {"ours": ours} if options.ours_only else {"ours": ours, "dspy.RLM": peer}
    names = [n for n in CASES if not options.only or any(text in n for text in options.only)]
    rows = []
    for name in names:
        for side, make in sides.items():
            print(f"{name}: {side} ...", file=sys.stderr)
            with _quiet():
                rows.append(measure(name, side, make))
    print(json.dumps([asdict(row) for row in rows], indent=2) if options.json else table(rows))


if __name__ == "__main__":
    main()
