"""The sub-LMs of an RLM: one, or several that code picks by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

import dspy

from dspy_rlm.errors import SignatureError
from dspy_rlm.values.previews import VALUE_CHARS, short_repr

SubLM: TypeAlias = "str | dspy.BaseLM | Mapping[str, dspy.BaseLM | tuple[dspy.BaseLM, str]] | None"


@dataclasses.dataclass(frozen=True)
class Models:
    """LMs by name; the first is the default. A single LM has the empty name."""

    by_name: Mapping[str, dspy.BaseLM]
    descriptions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def default(self) -> dspy.BaseLM:
        """The LM for calls that name none.

        Raises:
            LMNotConfiguredError: There is none.
        """
        for lm in self.by_name.values():
            return lm
        raise dspy.LMNotConfiguredError(
            "There is no LM to ask. Configure one with dspy.configure(lm=...), or give the RLM a sub_lm."
        )

    @property
    def names(self) -> list[str]:
        """The valid values of `model=`."""
        return [name for name in self.by_name if name]

    def choose(self, name: str | None) -> dspy.BaseLM:
        """Returns the LM of a name; None is the default. Raises `ValueError` for an unknown name."""
        if name is None:
            return self.default
        if isinstance(name, str) and name in self.names:
            return self.by_name[name]
        shown = short_repr(name, VALUE_CHARS)
        if not self.names:
            raise ValueError(
                f"There is no model {shown}: this run has one sub-LM, without a name. Leave model out."
            )
        raise ValueError(f"There is no model {shown}. The models are: {', '.join(self.names)}.")


def checked_sub_lm(sub_lm: Any) -> dspy.BaseLM | Mapping[str, Any] | None:
    """Returns the `sub_lm` argument of an RLM, checked; the name of a model becomes a `dspy.LM`.

    Raises:
        SignatureError: It is no LM, or a value of a dict is none.
    """
    if isinstance(sub_lm, str):
        try:
            return dspy.LM(sub_lm)
        except (ValueError, dspy.LMError) as error:
            raise SignatureError(f"sub_lm={sub_lm!r} is no model: {error}") from error
    if isinstance(sub_lm, Mapping):
        _named(sub_lm)
        return sub_lm
    if sub_lm is None or isinstance(sub_lm, dspy.BaseLM):
        return sub_lm
    raise SignatureError(
        "sub_lm must be a dspy.LM, the name of a model such as 'openai/gpt-5-mini', or a dict of LMs by name, not "
        f"{short_repr(sub_lm, VALUE_CHARS)}."
    )


def named_models(sub_lm: SubLM) -> Models | None:
    """Returns the sub-LMs from an RLM's `sub_lm` argument; None for none.

    Raises:
        SignatureError: A value is not an LM, or has no name.
    """
    sub_lm = checked_sub_lm(sub_lm)
    if sub_lm is None:
        return None
    if isinstance(sub_lm, dspy.BaseLM):
        return Models({"": sub_lm})
    return _named(sub_lm)


def _named(sub_lm: Mapping[str, Any]) -> Models:
    by_name, descriptions = {}, {}
    for name, entry in sub_lm.items():
        lm, text = entry if isinstance(entry, tuple) and len(entry) == 2 else (entry, "")
        if not isinstance(name, str) or not name.strip():
            raise SignatureError(f"A sub-LM needs a name, not {name!r}.")
        if not isinstance(lm, dspy.BaseLM) or not isinstance(text, str):
            raise SignatureError(
                f"sub_lm[{name!r}] must be a dspy.LM, or a dspy.LM and a line that describes it, not "
                f"{entry!r}."
            )
        by_name[name], descriptions[name] = lm, text
    if not by_name:
        raise SignatureError("sub_lm is empty. Give at least one LM, or None for the RLM's own.")
    return Models(by_name, descriptions)
