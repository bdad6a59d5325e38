"""A pool for the calls of one `RLM.session`: it lends the same sandbox to each of them, and sends each input once."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Mapping
from typing import Any

from dspy_rlm.runs.overwritten import overwritten_inputs
from sandbox_runtime import (
    CellResult,
    Completed,
    Directory,
    Pool,
    SandboxError,
    Session,
    Table,
    TextFile,
    TextStream,
    WrappedTool,
)
from sandbox_runtime.helpers import Loan, Slot, abridged

# Values of these types cannot be changed by a cell, so the variable stays what it was sent as.
_UNCHANGING = (str, bytes, int, float, bool, type(None), TextFile, TextStream, Directory, Table)


# The first line of the first output, if the sandbox of earlier calls could not be started again.
GONE = "[The sandbox of the earlier calls is gone, and their variables with it. The inputs are there.]\n"

# The longest list of kept variables in a prompt.
MAX_LISTED_CHARS = 4_000


class KeptSandboxPool(Pool):
    """Lends the sandboxes of a session's calls: the kept one to a call, others to what runs inside of it."""

    def __init__(self, pool: Pool) -> None:
        """Opens nothing yet.

        Args:
            pool: The pool that the sandboxes come from. Calls queue in its line.
        """
        super().__init__(
            0,  # its sandboxes come from the other
            limits=pool.limits,
            packages=pool.packages or (),
            max_sessions=pool.max_sessions,
        )
        self._pool = pool
        self._session: Session | None = None
        self._is_lent = False
        self._sent: dict[str, Any] = {}
        self._lending = threading.Lock()  # guards what is above
        self._listed = ""
        self._lost = ""  # the notice for the next output that variables of earlier calls are gone
        self._can_list = False

    @property
    def kept_variables(self) -> str:
        """The variables of earlier calls, one in a line with type and size; empty if there are none any more."""
        session = self._session
        return "" if session is None or session.closed else self._listed

    def slot(self, parent: Slot | None = None) -> Slot:
        """See `Pool`."""
        return self._pool.slot(parent)

    def lend(
        self,
        tools: Any = None,
        outputs: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Session:
        """Returns the kept sandbox, or another one while that is lent."""
        with self._lending:
            if self._is_lent:
                return self._pool.lend(tools, outputs, **options)
            self._is_lent = True
        # A tool of the user may have the name.
        self._can_list = isinstance((tools or {}).get("SHOW_VARS"), WrappedTool)
        try:
            session = self._registered(tools, outputs, options)
        except BaseException:
            self._is_lent = False
            raise
        lost, self._lost = self._lost, ""
        return _KeptSandbox(session, self._take_back, self._sent, lost)

    def _registered(
        self, tools: Any, outputs: Mapping[str, str] | None, options: Mapping[str, Any]
    ) -> Session:
        """Returns the kept sandbox with the tools of a call; a new one if there is none or it has died."""
        if self._session is not None and not self._session.closed:
            with contextlib.suppress(SandboxError):
                self._session.register(
                    tools or {}, outputs, types=options.get("types"), loop=options.get("loop")
                )
                # An output of an earlier call is no answer to this one.
                result = self._session.run_cell(
                    f"[globals().pop(name, None) for name in {tuple(outputs or ())!r}] and None"
                )
                if result.state_lost:
                    self._listed, self._lost = "", result.output[: result.own.head]
                return self._session
        if self._listed:
            self._listed, self._lost = "", GONE
        self._sent.clear()
        self._session = self._pool.lend(tools, outputs, **options)
        return self._session

    def _take_back(self) -> None:
        """Ends a call: its functions are gone, its variables stay."""
        session = self._session
        if session is not None:
            try:
                self._listed = self._list(session)
                session.register({}, None, types=())
            except SandboxError:  # it has died, or its cell goes on although it was interrupted
                session.close()
        self._is_lent = False

    def _list(self, session: Session) -> str:
        if not self._can_list:
            return ""
        result = session.run_cell("SHOW_VARS()")
        lines = result.output.splitlines() if isinstance(result, Completed) else []
        kept = [line for line in lines if line.partition(":")[0] not in self._sent]
        return abridged("\n".join(kept), MAX_LISTED_CHARS)

    def close(self) -> None:
        """Closes the kept sandbox."""
        super().close()
        session, self._session = self._session, None
        if session is not None:
            session.close()


class _KeptSandbox(Loan):
    """A call's view of the kept sandbox."""

    def __init__(
        self, session: Session, give_back: Any, sent: dict[str, Any], notice: str = ""
    ) -> None:
        super().__init__(session, give_back)
        self._sent = sent
        self._notice = notice
        self._prepares = False

    def assign(self, variables: Any, value: object = None, /) -> None:
        """Sends the variables that are new, or that a cell may have changed."""
        values = {variables: value} if isinstance(variables, str) else dict(variables)
        unsent = {
            name: one
            for name, one in values.items()
            if self._sent.get(name, self) is not one or not isinstance(one, _UNCHANGING)
        }
        for name in unsent:  # if sending fails, its value is unknown
            self._sent.pop(name, None)
        super().assign(unsent)
        self._sent.update(unsent)

    def run_cell(self, code: str, /) -> CellResult:
        """See `Session`. An input that the cell binds anew is sent again for the next call."""
        for name in overwritten_inputs(code, self._sent):
            self._sent.pop(name, None)
        return self._with_notice(super().run_cell(code))

    def number_next_cell(self, number: int) -> None:
        """See `Session`. The output of a cell that prepares the namespace is shown to nobody."""
        self._prepares = number < 1
        super().number_next_cell(number)

    def _with_notice(self, result: CellResult) -> CellResult:
        if self._prepares:
            return result
        notice, self._notice = self._notice, ""
        if not notice:
            return result
        own = dataclasses.replace(result.own, head=len(notice) + result.own.head)
        return dataclasses.replace(result, output=notice + result.output, own=own, state_lost=True)
