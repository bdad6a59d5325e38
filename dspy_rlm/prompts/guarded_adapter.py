"""Wraps a DSPy adapter so that inputs stay data: no value can forge a field of the prompt.

DSPy puts inputs into a prompt verbatim, between marks like `[[ ## question ## ]]`. In a sub-call they are
untrusted text. This module decides which values are escaped; `untrusted_text.py` decides how.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import dspy
import pydantic

from dspy_rlm.prompts.untrusted_text import as_value


class _Marked(str):
    """Text whose values are escaped already, such as a trajectory that goes into a prompt as a whole."""

    __slots__ = ()


def guarded(adapter: dspy.Adapter | None = None) -> Any:
    """Returns a copy of the adapter that escapes inputs. None: of the adapter in DSPy's settings."""
    plain = adapter or dspy.settings.adapter or dspy.ChatAdapter()
    plain = getattr(plain, "_plain", plain)
    wrapped: Any = copy.copy(plain)
    wrapped.__class__ = _guarded_class(plain.__class__)
    wrapped._plain = plain
    return wrapped


@lru_cache(maxsize=64)
def _guarded_class(cls: Any) -> Any:
    class Guarded(cls):
        """See `guarded`."""

        def __call__(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> Any:
            """Calls the adapter itself with escaped inputs, so that its fallbacks get them too."""
            marked = _marked(inputs, _tags(self._plain, signature))
            return self._plain(lm, lm_kwargs, signature, demos, marked)

        async def acall(
            self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any
        ) -> Any:
            """Calls the adapter with escaped inputs, on an event loop."""
            marked = _marked(inputs, _tags(self._plain, signature))
            return await self._plain.acall(lm, lm_kwargs, signature, demos, marked)

        def format_user_message_content(
            self, signature: Any, inputs: Any, *args: Any, **kwargs: Any
        ) -> str:
            """Formats a part of a prompt, as DSPy's agents do with the results of their tools."""
            marked = _marked(inputs, _tags(self._plain, signature))
            return _Marked(
                self._plain.format_user_message_content(signature, marked, *args, **kwargs)
            )

    Guarded.__name__ = Guarded.__qualname__ = cls.__name__  # error messages show the name
    return Guarded


def _tags(adapter: dspy.Adapter, signature: Any) -> tuple[str, ...]:
    """Returns the fields that the adapter writes as `<name>`."""
    return tuple(signature.fields) if isinstance(adapter, dspy.XMLAdapter) else ()


def _marked(value: Any, tags: tuple[str, ...]) -> Any:
    """Returns the value with all of its texts escaped; the value itself if nothing has to be."""
    if isinstance(value, _Marked):
        return str(value)
    if type(value) is str:
        marked = as_value(value, tags)
        return marked if marked != value else value
    if isinstance(value, dspy.Type):
        # Images and the like have a format of their own, which no text in them may terminate.
        texts = {name: item for name, item in _fields(value).items() if type(item) is str}
        return _changed(value, texts, tags)
    if isinstance(value, pydantic.BaseModel):
        return _changed(value, _fields(value), tags)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _changed(value, fields, tags)
    if isinstance(value, Mapping):
        return {_marked(name, tags): _marked(item, tags) for name, item in value.items()}
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(_marked(item, tags) for item in value)
    if isinstance(value, tuple) and hasattr(value, "_replace"):
        return type(value)(*(_marked(item, tags) for item in value))
    return value


def _fields(model: pydantic.BaseModel) -> dict[str, Any]:
    """Returns the model's fields by name. Iterating a model may yield something else, as for `dspy.Reasoning`."""
    return {**vars(model), **(model.model_extra or {})}


def _changed(value: Any, fields: Mapping[str, Any], tags: tuple[str, ...]) -> Any:
    """Returns a copy of a record with its texts escaped, without running the checks of its class."""
    marked = {name: _marked(item, tags) for name, item in fields.items()}
    changes = {name: item for name, item in marked.items() if item is not fields[name]}
    if not changes:
        return value
    changed = copy.copy(value)
    for name, item in changes.items():
        object.__setattr__(changed, name, item)
    return changed
