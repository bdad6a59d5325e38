"""A loan of a session: the borrower's view of one, which its lender keeps after the borrower has closed it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from sandbox_runtime.errors import SessionClosedError
from sandbox_runtime.sessions.session import Session


class Loan(Session):
    """One borrower's view of a session: closing it ends the loan only, and no later use reaches the session."""

    def __init__(self, session: Session, give_back: Callable[[], object]) -> None:
        """Begins the loan.

        Args:
            session: The session, which must not be used otherwise before the end.
            give_back: Called once, by the thread that ends the loan.
        """
        vars(self).update(vars(session))  # the same parts, so that both are the same session
        self._give_back = give_back
        self._first = threading.Lock()  # acquired by the thread that ends the loan, never released

    def close(self) -> None:
        """Ends the loan. Idempotent."""
        if self._first.acquire(blocking=False):
            self._give_back()

    def interrupt(self) -> None:
        """Interrupts the borrower's own cell only."""
        if not self._first.locked():
            super().interrupt()

    @property
    def closed(self) -> bool:
        """True once the loan has ended, too."""
        return self._first.locked() or super().closed

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        if self._first.locked():
            raise SessionClosedError("The loan of this session has ended.")
        with super()._exclusive():
            yield
