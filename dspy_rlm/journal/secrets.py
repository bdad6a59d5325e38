"""Removes the secrets of a run's LMs and tools, and of the environment, from what is recorded.

Only what is known to be a secret, plain or encoded: what merely looks like one may be data, and a run that is resumed
must get it back unchanged.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from sandbox_runtime.helpers import HIDDEN, environment_secrets, forms_of

# The secrets are searched for again after this: an LM may have got a new token.
FRESH_SECONDS = 5.0

# In a longer text only the secrets themselves are searched for, not their encodings: it is an input, and each takes a
# second per gigabyte or so.
MAX_SEARCHED_CHARS = 2_000_000


class KnownSecrets:
    """The secrets of a run. Safe to use from any thread."""

    def __init__(self, secrets: Callable[[], Iterable[str]]) -> None:
        """Searches nothing yet. `secrets` returns those of the LMs and tools."""
        self._secrets = secrets
        self._lock = threading.Lock()  # guards the search
        self._until = 0.0
        self._forms: list[str] = []
        self._seen: set[str] = set()

    def forms(self) -> list[str]:
        """Returns all texts to remove, longest first: also those that were secrets a while ago."""
        if time.monotonic() >= self._until:
            with self._lock:
                self._seen |= {*environment_secrets(), *self._secrets()}
                self._forms = forms_of(self._seen)
                self._until = time.monotonic() + FRESH_SECONDS
        return self._forms

    def clean(self, text: str) -> str:
        """Returns the text without secrets."""
        forms = self.forms()
        if len(text) > MAX_SEARCHED_CHARS:
            forms = [form for form in forms if form in self._seen]
        for form in forms:
            if form in text:
                text = text.replace(form, HIDDEN)
        return text

    def clean_changed(self, text: str, head: int, tail: int) -> str:
        """Like `clean`, for a text whose first and last characters were cleaned before, as parts of one text."""
        forms = self.forms()
        margin = len(forms[0]) if forms else 0
        part = text[max(head - margin, 0) : len(text) - max(tail - margin, 0)]
        return text if self.clean(part) == part else self.clean(text)
