"""Values for another process: their LMs travel without keys, wherever they are, and their pools stay behind.

An RLM's own pickle has no key. A `dspy.Predict` or a `dspy.LM` beside it is pickled by DSPy, with its key: here it is not.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from dspy_rlm.dspy_bridge.pickling import pickler, unpickler
from dspy_rlm.lms.secrets import secrets_of_lm
from sandbox_runtime.helpers import environment_secrets, forms_of

logger = logging.getLogger(__name__)

T = TypeVar("T")


def packed(value: Any) -> bytes:
    """Returns the value as bytes, with its LMs and without their keys.

    Raises:
        Exception: A part of it cannot be pickled.
    """
    data, lms = _written(value, ())
    secrets = forms_of([*environment_secrets(), *(one for lm in lms for one in secrets_of_lm(lm))])
    held = [secret for secret in secrets if secret.encode("utf-8", "replace") in data]
    if held:
        logger.warning(
            "A secret outside of the LMs was found in what is sent to another process, and is replaced by [secret]. "
            "Let code read it from the environment when it needs it."
        )
        data, _ = _written(value, held)
    return data


def unpacked(data: bytes) -> Any:
    """Returns the value from the bytes of `packed`. Only for bytes that this program wrote: a pickle runs code."""
    outside, inside = unpickler(io.BytesIO(data), []).load()
    return unpickler(io.BytesIO(inside), outside).load()


class WithoutKeys(Generic[T]):
    """A module on its way to another process: any pickler writes it without keys, and it is unpickled as the module."""

    def __init__(self, module: T) -> None:
        self.module = module

    def __reduce__(self) -> tuple[Any, ...]:
        return unpacked, (packed(self.module),)


def without_keys(module: T) -> WithoutKeys[T]:
    """Returns an object that pickles as the module without the keys of its LMs, and unpickles as the module itself.

        ref = ray.put(dspy_rlm.without_keys(program))   # a worker gets the program itself

    For a module of your own that holds a `dspy.Predict` or a `dspy.LM`, which DSPy pickles with their keys. An `RLM` by
    itself is pickled without keys anyway. The other process reads keys from its environment.

    Args:
        module: The module. Any pickler can pickle the result; if a part of the module cannot be pickled, that is its error.
    """
    return WithoutKeys(module)


def _written(value: Any, hidden: Sequence[str]) -> tuple[bytes, list[Any]]:
    file, around = io.BytesIO(), io.BytesIO()
    inner = pickler(file, hidden)
    inner.dump(value)
    pickler(around).dump((inner.outside, file.getvalue()))
    return around.getvalue(), inner.lms
