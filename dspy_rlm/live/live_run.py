"""The hooks of one run: its events, the calls of its code and its LM calls change the state that a display shows.

They are called from any thread of the run. None of them raises.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Collection, Iterator
from contextvars import ContextVar
from typing import Any

from dspy_rlm.budget.bill import Bill
from dspy_rlm.events import Event, RunEnded, SubCallProgress, SubCallStarted
from dspy_rlm.live.part_times import ROOT, SUB_LMS, TOOLS, WAITING
from dspy_rlm.live.state import CallSite, RunView
from dspy_rlm.live.tree import Tree
from dspy_rlm.live.words import phase
from dspy_rlm.lms.call_arguments import CallArguments
from dspy_rlm.protocols.middleware import HostFunction, Wrapper
from dspy_rlm.protocols.recording import Attempt, CallLog
from sandbox_runtime.helpers import call_line

# The LM calls of a root run itself.
_OF_THE_ROOT = ("action", "extract", "compact", "adapter")


@dataclasses.dataclass
class _Calling:
    """The call of a function by a cell, for the code below it."""

    run: LiveRun
    line: int
    site: CallSite | None = None


_calling: ContextVar[_Calling | None] = ContextVar("rlm_live_call", default=None)


def calling_run() -> LiveRun | None:
    """Returns the run whose code has called the running code; None outside of the functions of all runs."""
    calling = _calling.get()
    return calling.run if calling is not None else None


class LiveRun:
    """One run of a tree."""

    def __init__(
        self,
        tree: Tree,
        view: RunView,
        above: LiveRun | None = None,
        bill: Callable[[int], Bill] | None = None,
    ) -> None:
        """Creates the view without showing it: `__enter__` does that.

        Args:
            tree: The tree of the run.
            view: Its state.
            above: The run whose code has started this one; None for a root.
            bill: Returns the upper bound of the spending of a root run, by the most tokens of its first prompt.
        """
        self.tree = tree
        self.view = view
        self._above = above
        self._bill = bill
        calling = _calling.get()
        own = calling is not None and calling.run is above
        self._site = calling.site if calling is not None and own else None

    # ---- Lifetime ----

    def __enter__(self) -> LiveRun:
        """Shows the run."""
        if self._above is None:
            self.tree.begin()
        else:
            with self.tree.changing():
                self._above.view.add_sub_run(self.view)
        return self

    def __exit__(self, _type: Any, error: BaseException | None, _traceback: Any) -> None:
        """Ends the view of a run that failed before its first event, since its sandbox did not open."""
        if error is None or self.view.is_over:
            return
        with self.tree.changing() as now:
            self.view.error = f"{type(error).__name__}: {str(error)[:1_000]}"
            self.view.ended = now
            self.view.times.stop(now)
        self._over()

    def take(self, event: Event) -> None:
        """Follows the run by its events; a `Sink`."""
        with self.tree.changing() as now:
            match event:
                case SubCallStarted(name=name, count=count):
                    self._begin_call(name, count, now, is_tool=False)
                case SubCallProgress(done=done, count=count):
                    calling = _calling.get()
                    if calling is not None and calling.run is self:
                        self.view.progress(calling.site, done, count)
                case _:
                    self.view.take(event, now)
        if isinstance(event, RunEnded):
            self._over()

    def _over(self) -> None:
        if self._above is None:
            self.tree.end()
            return
        with self.tree.changing():
            self._above.view.sub_run_ended(self.view)
            if self._site is not None and self.view.failed:
                self._site.failed += self._site.is_batch
                self._site.error = phase(self.view)[:500]

    def stopping(self, seconds: float) -> None:
        """Shows that the user has stopped the run, which has so many seconds left."""
        with self.tree.changing():
            self.view.stopping = seconds

    # ---- Calls of the running cell ----

    def wrapper(self, tools: Collection[str]) -> Wrapper:
        """Returns a wrapper that follows the calls of functions. `tools` are the names of the user's."""
        return lambda name, function: self._followed(name, function, is_tool=name in tools)

    def _followed(self, name: str, function: HostFunction, *, is_tool: bool) -> HostFunction:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            calling = _Calling(self, call_line())
            with self._inside(calling):
                if is_tool:
                    with self.tree.changing() as now:
                        self._begin_call(name, 1, now, is_tool=True)
                try:
                    result = function(*args, **kwargs)
                except BaseException as error:
                    self._end_call(calling, error, is_tool=is_tool)
                    raise
            if inspect.iscoroutine(result):
                return self._awaited(calling, result, is_tool=is_tool)
            self._end_call(calling, None, is_tool=is_tool)
            return result

        return call

    async def _awaited(self, calling: _Calling, coroutine: Any, *, is_tool: bool) -> Any:
        try:
            with self._inside(calling):
                result = await coroutine
        except BaseException as error:
            self._end_call(calling, error, is_tool=is_tool)
            raise
        self._end_call(calling, None, is_tool=is_tool)
        return result

    @contextlib.contextmanager
    def _inside(self, calling: _Calling) -> Iterator[None]:
        token = _calling.set(calling)
        try:
            yield
        finally:
            with contextlib.suppress(ValueError):  # an abandoned coroutine ends in another context
                _calling.reset(token)

    def _begin_call(self, name: str, count: int, now: float, *, is_tool: bool) -> None:
        calling = _calling.get()
        line = calling.line if calling is not None and calling.run is self else 0
        site = self.view.call(name, count, line, now, is_tool=is_tool)
        if calling is not None and calling.run is self:
            calling.site = site
        if is_tool:
            self.tree.root.times.begin(TOOLS, now)

    def _end_call(self, calling: _Calling, error: BaseException | None, *, is_tool: bool) -> None:
        if not is_tool and calling.site is None:
            return
        with self.tree.changing() as now:
            text = f"{type(error).__name__}: {error}" if error is not None else ""
            self.view.returned(calling.site, text, now)
            if is_tool:
                self.tree.root.times.end(TOOLS, now)

    # ---- LM calls ----

    @contextlib.contextmanager
    def calling(self, kind: str, depth: int, arguments: CallArguments) -> Iterator[CallLog]:
        """Follows an LM call; see `Recorder`."""
        is_of_root = depth == 0 and kind in _OF_THE_ROOT
        if is_of_root and self._bill is not None:
            self._count_bill(arguments)
        calling = _calling.get()
        site = calling.site if calling is not None and calling.run is self else None
        log = _LiveCall(self, ROOT if is_of_root else SUB_LMS, site)
        log.wait()
        try:
            yield log
        except Exception as error:
            log.over(error)
            raise
        except BaseException:
            log.over()
            raise
        log.over()

    def _count_bill(self, arguments: CallArguments) -> None:
        """Computes the most that the run can take, once its first prompt is known."""
        count, self._bill = self._bill, None
        with self.tree.changing():
            if count is not None:
                self.view.bill = count(arguments.content().bytes)

    def booked(self, attempt: Attempt) -> None:
        """Adds a request to the totals of the tree, and to the steps whose code has caused it."""
        call = attempt.spent.call
        self.tree.root.totals.add(call)
        for run in self._and_above():
            run.view.booked(call)

    def called(self, *, failed: bool) -> None:
        """Counts an LM call of the code, after its end; all requests of it are one call."""
        self.tree.root.totals.llm_calls += 1
        self.tree.root.totals.failed += failed
        for run in self._and_above():
            run.view.called()

    def _and_above(self) -> Iterator[LiveRun]:
        run: LiveRun | None = self
        while run is not None:
            yield run
            run = run._above


class _LiveCall:
    """One LM call: it waits, or it is sent."""

    def __init__(self, run: LiveRun, part: str, site: CallSite | None) -> None:
        self._run = run
        self._part = part
        self._site = site
        self._in: str | None = None
        self._is_sent = False

    def wait(self) -> None:
        """Marks the call as waiting until it may be sent."""
        with self._run.tree.changing() as now:
            self._go_to(WAITING, now)

    def sent(self, tokens: float, cost: float) -> None:
        """See `CallLog`."""
        with self._run.tree.changing() as now:
            self._go_to(self._part, now)

    def attempted(self, attempt: Attempt) -> None:
        """See `CallLog`."""
        with self._run.tree.changing() as now:
            self._go_to(WAITING, now)
            self._is_sent = self._is_sent or not attempt.spent.call.cached
            self._run.booked(attempt)

    def over(self, error: Exception | None = None) -> None:
        """Marks the call as ended."""
        with self._run.tree.changing() as now:
            self._go_to(None, now)
            if self._is_sent and self._part == SUB_LMS:
                self._run.called(failed=error is not None)
            if error is not None and self._site is not None and self._site.is_batch:
                self._site.failed += 1
                self._site.error = f"{type(error).__name__}: {error}"[:500]

    def _go_to(self, part: str | None, now: float) -> None:
        root = self._run.tree.root
        if self._in is not None:
            root.times.end(self._in, now)
            root.totals.in_flight -= self._in == self._part
        if part is not None:
            root.times.begin(part, now)
            root.totals.in_flight += part == self._part
        self._in = part
