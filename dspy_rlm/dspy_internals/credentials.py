"""Finds an LM without a key before anything is sent or started. Uses no network, and invokes no credential."""

from __future__ import annotations

from typing import Any

import dspy
from dspy import lm15
from dspy._vendor.lm15.registry import lookup
from dspy.clients.backend_selection import select_backend
from dspy.clients.engines.lm15_engine import LM15Engine
from dspy.clients.errors import error_boundary

from dspy_rlm.dspy_internals.lm_calls import is_dspys_own


def check_key(lm: Any) -> None:
    """Raises the error that every call of the LM would raise because it has no key.

    Only where that is certain: for providers that DSPy's native engine calls, and that are logged in to with a key
    alone. LiteLLM's engine reads keys in many places; clouds and subscriptions have logins of other kinds.

    Raises:
        LMNotConfiguredError: There is no key.
    """
    if not is_dspys_own(lm) or not isinstance(lm.engine, str) or lm.kwargs.get("api_key"):
        return
    try:
        backend = select_backend(lm)
    except (dspy.LMError, lm15.LM15Error, ValueError, TypeError):
        return  # the call will say so
    if not backend.native or backend.clients.get("api_key"):
        return
    resolution = backend.resolution
    definition = lookup(resolution.provider)
    is_cloud = definition is not None and definition.hosted
    if resolution.declared or is_cloud or resolution.credential_policy != "key":
        return
    with error_boundary(lm.model, provider=resolution.provider):
        LM15Engine(model_type=lm.model_type).router.lm(f"{resolution.provider}:{resolution.model}")
