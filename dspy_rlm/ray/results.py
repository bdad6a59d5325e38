"""Values that travel between a caller and its workers: modules, settings, inputs and results, without the keys of LMs.

Entries of a trace travel by the name of their predictor, so that those of the caller's own predictors arrive. Knows no Ray.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import dspy

from dspy_rlm.dspy_bridge.pickling import pickler, unpickler
from dspy_rlm.dspy_bridge.shipping import packed, unpacked
from dspy_rlm.errors import RLMError

# The settings of DSPy that change what a module does. Callbacks, streams and histories stay with the caller.
_SENT_SETTINGS = (
    "lm",
    "adapter",
    "disable_history",
    "max_history_size",
    "max_trace_size",
    "warn_on_type_mismatch",
    "allow_tool_async_sync_conversion",
    "async_max_workers",
)

TraceEntry: TypeAlias = tuple[Any, dict[str, Any], Any]


class RemoteError(RLMError):
    """An error of a worker that cannot be sent; the message has its type and its text."""


@dataclasses.dataclass(frozen=True)
class Shipped:
    """A module or settings as bytes, and their digest, by which a worker keeps them."""

    data: bytes
    digest: str

    def unpack(self) -> Any:
        """Returns the value."""
        return unpacked(self.data)


@dataclasses.dataclass(frozen=True)
class CallResult:
    """The result of a module's call in a worker: a prediction or an error, the trace and the usage."""

    prediction: Any = None
    error: BaseException | None = None
    signature_of: str | None = None
    """The predictor whose signature the error has. Optimizers look for the predictor by its signature."""

    trace: list[TraceEntry] = dataclasses.field(default_factory=list)
    """Each entry has the name of its predictor, or the predictor itself if it is none of the module's."""

    usage: Mapping[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)


def shipped(value: Any) -> Shipped:
    """Returns a module or settings to be sent. Secrets in their texts are replaced.

    Raises:
        Exception: A part cannot be pickled.
    """
    data = packed(value)
    return Shipped(data, hashlib.sha256(data).hexdigest())


def data_of(value: Any) -> bytes:
    """Returns inputs or a result to be sent: LMs in them have no key, and texts are as they were."""
    file = io.BytesIO()
    pickler(file).dump(value)
    return file.getvalue()


def value_of(data: bytes) -> Any:
    """Returns the value from the bytes of `data_of`."""
    return unpickler(io.BytesIO(data), []).load()


def sent_settings() -> dict[str, Any]:
    """Returns the settings of DSPy at present, for a worker."""
    return {name: dspy.settings.get(name) for name in _SENT_SETTINGS}


def named_entries(module: dspy.Module, trace: Iterable[TraceEntry]) -> list[TraceEntry]:
    """Returns a trace with names instead of the module's own predictors."""
    names = {id(predictor): name for name, predictor in module.named_parameters()}
    return [(names.get(id(one), one), inputs, output) for one, inputs, output in trace]


def own_entries(module: dspy.Module, trace: Iterable[TraceEntry]) -> list[TraceEntry]:
    """Returns a trace with the module's own predictors instead of names."""
    predictors = dict(module.named_parameters())
    return [
        (predictors[one] if isinstance(one, str) else one, inputs, output)
        for one, inputs, output in trace
    ]


def predictor_of_signature(module: dspy.Module, error: BaseException) -> str | None:
    """Returns the name of the predictor that has the signature of an error."""
    signature = getattr(error, "signature", None)
    return next(
        (
            name
            for name, one in module.named_parameters()
            if signature is not None and getattr(one, "signature", None) is signature
        ),
        None,
    )


def with_own_signature(module: dspy.Module, result: CallResult) -> BaseException | None:
    """Returns the error of a result, with the signature of the module's own predictor."""
    error = result.error
    predictor = dict(module.named_parameters()).get(result.signature_of or "")
    if error is not None and predictor is not None:
        error.signature = predictor.signature  # type: ignore[attr-defined]
    return error


def sendable(result: CallResult) -> bytes:
    """Returns a result to be sent. An error that cannot be sent is replaced by its text."""
    try:
        written = data_of(result)
        if result.error is not None:
            value_of(written)  # many exceptions can be pickled and not be unpickled
    except Exception as failure:  # noqa: BLE001 - sent as text
        error = result.error or failure
        text = RemoteError(f"{type(error).__name__}: {error}")
        return data_of(CallResult(error=text, usage=result.usage))
    return written
