"""The context of a run: shared with its sub-calls and sub-runs, and in part visible to code inside the run.

`RunContext` is the run's own: it is passed on explicitly, from the run to the functions that its cells call
and to its sub-runs. `OuterRun` is the small part that code inside a run can read without being passed anything,
such as a tool that starts its own RLM: enough to wait in the right place and to be cancelled with the
run, without the ledger and the LMs. It is kept in DSPy's settings, which are inherited by the threads of
`dspy.Parallel` and `dspy.asyncify`; context variables do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dspy

from dspy_rlm.budget.allowance import Allowance, Calls
from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.concurrency.cancellation import CancelScope, RenewableScope
from dspy_rlm.dspy_bridge.interpreter_factory import Borrowed, InterpreterFactory, ours_if_lent
from dspy_rlm.errors import InputError
from dspy_rlm.evidence.coverage import Coverage
from dspy_rlm.limiting.gate import Gates
from dspy_rlm.live.live_run import LiveRun
from dspy_rlm.lms.kept_answers.lost_cells import CellAnswers
from dspy_rlm.lms.kept_answers.memo import RunMemo
from dspy_rlm.lms.meter import Meter
from dspy_rlm.lms.metering import metered
from dspy_rlm.lms.schemas import Schemas
from dspy_rlm.lms.secrets import secrets_of_lm
from dspy_rlm.lms.sub_lms import Models
from dspy_rlm.protocols.playback import Playback
from dspy_rlm.protocols.recording import NOT_RECORDED, RecordedTwice, Recorder
from dspy_rlm.signatures.cell_types import class_kinds
from dspy_rlm.tools.secrets import ToolSecrets
from dspy_rlm.tracing.run_tracer import RunTracer
from dspy_rlm.values.conversion import TypeRules
from sandbox_runtime import Limits, PackageSet, Pool, default_pool
from sandbox_runtime.helpers import Slot, classes_in

# Sandboxes that the code of one run can have open at the same time. Each takes about 200 MB.
MAX_CONCURRENT_SANDBOXES = 4

_SETTING = "rlm_outer_run"


@dataclasses.dataclass(frozen=True)
class OuterRun:
    """The part of a run that code inside it sees, through DSPy's settings."""

    slot: Slot | None = None
    """The slot that the run holds in the pool until it ends."""

    work_scope: CancelScope | None = None
    """Cancels everything that was started inside the run."""

    lent: tuple[object, ...] = ()
    """The factories of the caller's own interpreters that are busy with this run or one around it."""

    tracer: RunTracer | None = None
    """The spans of the run, if it is traced."""


def current_outer_run() -> OuterRun:
    """Returns the innermost run around the calling code; an empty `OuterRun` outside of all runs."""
    outer: OuterRun | None = dspy.settings.get(_SETTING)
    return outer or OuterRun()


@contextlib.contextmanager
def _entering(outer: OuterRun) -> Iterator[None]:
    with dspy.context(**{_SETTING: outer}):
        yield


def _semaphore() -> threading.Semaphore:
    return threading.Semaphore(MAX_CONCURRENT_SANDBOXES)


def _unheard(_note: str) -> None:
    """Drops a note where there is no observation."""


def kept_variables(context: RunContext) -> str:
    """Returns the variables that earlier calls of a session have left in the REPL, as prompts list them."""
    if context.depth > 0:
        return ""
    if context.playback is not None:
        return context.playback.kept
    kept: str = getattr(context.pool, "kept_variables", "")
    return kept


@dataclasses.dataclass(frozen=True)
class RunContext:
    """A run's place in the tree of runs, and what its sub-calls and sub-runs share with it."""

    ledger: Ledger
    """One for the whole tree."""

    models: Models
    """The LMs that code can call."""

    depth: int = 0
    """Levels below the root run, which is at 0."""

    allowance: Allowance | None = None
    """The LM calls of a sub-run; None for a root run, which has all that are left."""

    setup: str = ""
    """Code of the outer run that runs first in this REPL."""

    other_lms: Sequence[dspy.BaseLM | None] = ()
    """Further LMs of the run, such as the one that writes the code: their secrets are hidden too."""

    tool_secrets: ToolSecrets = dataclasses.field(default_factory=ToolSecrets)
    """The secrets that the run's tools hold."""

    annotations: Sequence[Any] = ()
    """The types of inputs, outputs and tools: cells can use their classes by name."""

    rules: TypeRules = ()
    """Rules for how values of certain types cross to the sandbox."""

    loop: asyncio.AbstractEventLoop | None = None
    """The event loop that the caller's coroutine functions run on."""

    run_scope: CancelScope = dataclasses.field(default_factory=CancelScope)
    """Cancels everything of the run."""

    work_scope: CancelScope = dataclasses.field(default_factory=CancelScope)
    """Cancels the work that must not outlast the run's time: cells, turns, sub-calls and sub-runs."""

    last_scope: CancelScope = dataclasses.field(default_factory=CancelScope)
    """Cancels the extraction, which may outlast that time."""

    tree_scope: CancelScope = dataclasses.field(default_factory=CancelScope)
    """Cancels the root run with everything below it."""

    gates: Gates = dataclasses.field(default_factory=Gates)
    """Bound the calls of each LM in flight."""

    schemas: Schemas = dataclasses.field(default_factory=Schemas)
    """Decides which typed sub-calls ask for replies in a JSON schema."""

    interpreter_factory: InterpreterFactory | None = None
    """Creates the interpreter that cells run in. None: a sandbox of the pool."""

    limits: Limits = dataclasses.field(default_factory=Limits)
    """The limits of the run's sandbox and of each that its code opens; the same holds for packages and pool."""

    packages: PackageSet | None = None
    """The packages that cells can import besides the standard library."""

    pool: Pool = dataclasses.field(default_factory=default_pool)
    """The pool that lends the sandboxes."""

    note: Callable[[str], None] = _unheard
    """Adds a line to the observation of the running cell."""

    note_serial: Callable[[str], None] = _unheard
    """Counts a call of this function that blocked the running cell, whose observation says so if it makes many of them."""

    coverage: Sequence[Coverage] = ()
    """The coverage of the inputs of this run and of the runs around it, as far as they track it."""

    memo: RunMemo | None = None
    """The answers of sub-LMs that are kept on disk; None: none are."""

    cell_answers: tuple[CellAnswers, ...] = dataclasses.field(
        default_factory=lambda: (CellAnswers(),)
    )
    """The answers to the running cells of the runs around this one, and last to its own."""

    playback: Playback | None = None
    """The record of the run before, if it is repeated."""
    recorder: Recorder = NOT_RECORDED
    """Records the run; that of the run above until a sub-run has its own."""

    tracer: RunTracer | None = None
    """The spans of the run; those of the run above until a sub-run has its own. None: it is not traced."""

    live: LiveRun | None = None
    """The live view of the run; that of the run above until a sub-run has its own. None: it is not shown."""

    sandbox_permits: threading.Semaphore = dataclasses.field(default_factory=_semaphore)
    """One permit for each sandbox that the run's code has open."""

    @classmethod
    def root(
        cls, ledger: Ledger, models: Models, loop: asyncio.AbstractEventLoop | None, **fields: Any
    ) -> RunContext:
        """Returns the context of a run that no `sub_rlm` started.

        If a tool of another run started it, it is cancelled with that run.
        """
        cancellable = loop is not None or ledger.budget.max_seconds is not None
        outer = current_outer_run().work_scope
        scope = CancelScope(outer and outer.current, cancellable=cancellable)
        return cls(
            ledger,
            models,
            loop=loop,
            run_scope=scope,
            work_scope=RenewableScope(scope),
            last_scope=CancelScope(scope),
            tree_scope=scope,
            **fields,
        )

    def child(
        self,
        setup: str = "",
        lm: dspy.BaseLM | None = None,
        allowance: Allowance | None = None,
        playback: Playback | None = None,
    ) -> RunContext:
        """Returns the context of a sub-run: cancelled with this run's work, and on the same ledger.

        Args:
            setup: The code that runs first in its REPL.
            lm: The LM that writes its code.
            allowance: Its LM calls.
            playback: How it went before, if it is repeated.
        """
        scope = CancelScope(self.work_scope.current)
        return dataclasses.replace(
            self,
            depth=self.depth + 1,
            allowance=allowance or Allowance(self.calls),
            setup=setup,
            other_lms=(*self.other_lms, lm),
            run_scope=scope,
            work_scope=scope,
            last_scope=scope,
            interpreter_factory=ours_if_lent(self.interpreter_factory),
            playback=playback,
            cell_answers=(*self.cell_answers, CellAnswers()),
            sandbox_permits=_semaphore(),
        )

    @property
    def calls(self) -> Calls:
        """The LM calls that this run may cause."""
        return self.allowance or self.ledger

    @property
    def is_deepest(self) -> bool:
        """True if `max_depth` leaves no level for a sandbox below this run."""
        return self.depth >= self.ledger.budget.max_depth

    @property
    def class_kinds(self) -> str:
        """The kinds of classes that a cell can define for a signature, in words."""
        return class_kinds(self.packages.imports if self.packages else ())

    @property
    def call_recorder(self) -> Recorder:
        """Records LM calls: in the journal, as spans, and in the live view."""
        recorder = self.recorder
        for more in (self.tracer, self.live):
            recorder = RecordedTwice(recorder, more.calling) if more else recorder
        return recorder

    @functools.cached_property
    def types(self) -> Mapping[str, type]:
        """The classes in the annotations, by name."""
        return {cls.__name__: cls for cls in classes_in(*self.annotations)}

    def secrets(self) -> list[str]:
        """Returns the secrets of the run's LMs and tools, which none of its errors may show."""
        lms = {id(lm): lm for lm in (*self.models.by_name.values(), *self.other_lms) if lm}
        of_lms = [secret for lm in lms.values() for secret in secrets_of_lm(lm)]
        return [*of_lms, *self.tool_secrets()]

    def lm(
        self, kind: str, model: str | None = None, *, prepaid: int = 0, included: int = 0
    ) -> dspy.BaseLM:
        """Returns an LM whose calls are booked as sub-calls of this run.

        Args:
            kind: The function that makes them, as the report names it.
            model: The name of the LM; None is the default.
            prepaid: Calls that are charged already.
            included: Calls that were paid with a sandbox.

        Raises:
            ValueError: There is no such model.
        """
        lm = self.models.choose(model)
        meter = Meter(
            self.ledger,
            kind,
            self.depth,
            self.work_scope.current,  # an interrupt ends all calls of the function, also those that begin after it
            self.tree_scope,
            self.gates.of(lm),
            prepaid=prepaid,
            included=included,
            allowance=self.allowance,
            answers=self.playback,
            stores=(*self.cell_answers, *filter(None, [self.memo])),
            recorder=self.call_recorder,
        )
        return metered(lm, meter)

    # ---- Slots for the run's own sandbox, and for those that its code opens ----

    def new_slot(self) -> Slot:
        """Returns a slot of the pool, as a child of the one that is held already. The caller waits for it."""
        return self.pool.slot(parent=current_outer_run().slot)

    @contextlib.contextmanager
    def entering(self, slot: Slot | None) -> Iterator[None]:
        """Makes this run the outer run of all runs started inside the block.

        Raises:
            InputError: The run is inside another one with the same interpreter: it would wait forever.
        """
        outer = current_outer_run()
        factory = self.interpreter_factory
        lent = (factory,) if isinstance(factory, Borrowed) else ()
        if lent and factory in outer.lent:
            raise InputError(
                "This run is part of another that has the same interpreter, and one interpreter cannot "
                "do both. Give the inner one an interpreter_factory, or none for our sandbox."
            )
        inner = OuterRun(
            slot or outer.slot, self.work_scope, (*outer.lent, *lent), self.tracer or outer.tracer
        )
        with _entering(inner):
            yield

    @contextlib.contextmanager
    def sandbox_permit(self, allowance: Allowance | None = None) -> Iterator[None]:
        """Charges a sandbox that code requests, and waits for one of the run's permits.

        A sandbox counts as one call, which includes the first LM call in it. It is never refunded, so that
        `max_llm_calls` bounds the number of sandboxes too. `allowance` is that of a sub-run in it, which also holds back
        a call for its extraction.

        Raises:
            BudgetExceededError: No LM call is left that could use it, so it is not opened.
        """
        self.work_scope.check()
        self.ledger.check_room()
        (allowance.turns if allowance else self.calls).charge_llm_calls(1)
        if allowance is not None:
            allowance.hold_back()
        try:
            with self.sandbox_permits:
                self.work_scope.check()
                yield
        finally:
            if allowance is not None:
                allowance.release()

    @contextlib.contextmanager
    def nested_slot(self) -> Iterator[None]:
        """Holds a child slot of the run's slot; the run waits for the block. See `AdmissionQueue`."""
        slot = self.new_slot()
        try:
            scope = self.work_scope.current
            with scope.on_cancel(slot.release):
                slot.wait()
            scope.check()
            with _entering(dataclasses.replace(current_outer_run(), slot=slot)):
                yield
        finally:
            slot.release()
