"""Hands the headers of each HTTP response to the call that caused it: DSPy's native engine drops them.

The engine is DSPy's own; only its transport is wrapped, and passes everything through. A version of DSPy whose engine
has another form is left alone: headers are then unknown, as before.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, MutableMapping
from typing import Any

import dspy

# The lowest HTTP status that is an error.
_FIRST_ERROR = 400


class HeadersListener:
    """A usage tracker of DSPy that also takes headers: of those in the settings, the one of the running call."""

    def take_headers(self, headers: Any) -> None:
        """Receives the headers of a response that is no error, as pairs."""
        raise NotImplementedError


def with_headers(lm: Any) -> None:
    """Has the native engines of an LM hand on the headers of responses. Engines stay shared with its copies."""
    store = getattr(lm, "_engine_store", None)
    if isinstance(store, dict):
        lm._engine_store = _Engines(store)


class _Engines(MutableMapping[Any, Any]):
    """The engines of an LM by address and event loop, with a transport that reports headers."""

    def __init__(self, engines: dict[Any, Any]) -> None:
        self._engines = engines

    def __getitem__(self, key: Any) -> Any:
        engine = self._engines[key]
        _listen(engine)
        return engine

    def __setitem__(self, key: Any, engine: Any) -> None:
        _listen(engine)
        self._engines[key] = engine

    def __delitem__(self, key: Any) -> None:
        del self._engines[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._engines)

    def __len__(self) -> int:
        return len(self._engines)


def _listen(engine: Any) -> None:
    """Wraps the transport of an engine, once."""
    with contextlib.suppress(AttributeError, TypeError):
        transport = engine.router._shared_transport()
        if not isinstance(transport, _Transport):
            engine.router._transport = _Transport(transport)
            # Providers that exist already keep the transport that they were created with.
            for provider in [*engine.router._lms.values(), *engine._providers.values()]:
                provider.transport = engine.router._transport


class _Transport:
    """A transport that reports the headers of its responses."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def stream(self, *args: Any, **kwargs: Any) -> _Exchange:
        """Sends a request."""
        return _Exchange(self._transport.stream(*args, **kwargs))


class _Exchange:
    """A request that is answered within a `with` block."""

    def __init__(self, exchange: Any) -> None:
        self._exchange = exchange

    def __enter__(self) -> Any:
        return _reported(self._exchange.__enter__())

    def __exit__(self, *error: Any) -> Any:
        return self._exchange.__exit__(*error)

    async def __aenter__(self) -> Any:
        return _reported(await self._exchange.__aenter__())

    async def __aexit__(self, *error: Any) -> Any:
        return await self._exchange.__aexit__(*error)


def _reported(response: Any) -> Any:
    tracker = dspy.settings.usage_tracker
    status = getattr(response, "status", 0)
    if isinstance(tracker, HeadersListener) and isinstance(status, int) and status < _FIRST_ERROR:
        tracker.take_headers(getattr(response, "headers", ()))
    return response
