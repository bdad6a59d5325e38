"""LMs that arrive in a process without their key: said once for each model, when they are loaded, with what to do."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator
from contextvars import ContextVar

import dspy

from dspy_rlm.dspy_internals.credentials import check_key

logger = logging.getLogger(__name__)

_lock = threading.Lock()  # guards the set below
_warned: set[str] = set()

_keys_follow: ContextVar[bool] = ContextVar("_keys_follow", default=False)

REMEDY = (
    "Keys are never in a pickle. Set the provider's environment variable in this process (on Ray: "
    'ray.init(runtime_env={"env_vars": {"OPENAI_API_KEY": ...}})), or set the LM after loading: rlm.set_lm(dspy.LM(...))'
)


def warn_of_missing_key(lm: dspy.BaseLM) -> None:
    """Warns, once for each model, if the LM that was loaded has no key here, so that every call of it would fail."""
    if _keys_follow.get():
        return
    try:
        check_key(lm)
    except dspy.LMError:
        model = str(lm.model)
        with _lock:
            is_new = model not in _warned
            _warned.add(model)
        if is_new:
            logger.warning(
                "The LM %s has arrived in this process without a key, so no run can use it. %s.",
                model,
                REMEDY,
            )


@contextlib.contextmanager
def keys_follow() -> Iterator[None]:
    """Says nothing of LMs that are loaded in the block: they get their keys after it."""
    token = _keys_follow.set(True)
    try:
        yield
    finally:
        _keys_follow.reset(token)
