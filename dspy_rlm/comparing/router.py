"""`Router`: a direct call for short inputs, an RLM for long ones. The threshold comes from a comparison."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any, Literal, Self

import dspy
from dspy import LMError

from dspy_rlm.comparing.items import as_texts, length_of
from dspy_rlm.comparing.result import ComparisonResult
from dspy_rlm.dspy_bridge.pickling import module_state
from dspy_rlm.errors import InputError
from dspy_rlm.lms.context_window import is_overflow
from dspy_rlm.rlm import RLM

logger = logging.getLogger(__name__)

Route = Literal["direct", "rlm"]

# The key of the threshold in a saved state, beside the names of predictors.
_THRESHOLD = "threshold"


class Router(dspy.Module):
    """Answers short inputs with one direct call, and long ones with an RLM.

    Optimizers see the predictors of both. `save` and `load` keep the threshold.
    """

    def __init__(
        self,
        rlm: RLM,
        direct: dspy.Module | type[dspy.Module] = dspy.Predict,
        *,
        threshold: int = 0,
    ) -> None:
        """Configures the module.

        Args:
            rlm: The RLM for long inputs.
            direct: The module for short ones, or a class that takes the RLM's signature.
            threshold: Tokens of all inputs up to which the direct call answers, at four characters a token. 0: never.
        """
        super().__init__()
        if threshold < 0:
            raise InputError("The threshold of a router must be 0 or more.")
        self.rlm = rlm
        self.direct = direct(rlm.signature) if isinstance(direct, type) else direct
        self.threshold = threshold

    @classmethod
    def learned(
        cls,
        result: ComparisonResult,
        rlm: RLM,
        direct: dspy.Module | type[dspy.Module] = dspy.Predict,
        *,
        names: tuple[str, str] = ("direct", "rlm"),
        undecided: Route = "rlm",
    ) -> Self:
        """Returns a router with the threshold that a comparison shows.

        Args:
            result: A comparison in which both were measured.
            rlm: The RLM for long inputs.
            direct: The module for short ones.
            names: The names of the direct call and of the RLM in the comparison.
            undecided: The way for lengths at which the comparison does not decide.

        Raises:
            InputError: The comparison lacks one of the systems.
        """
        threshold = threshold_of(result, names=names, undecided=undecided)
        return cls(rlm, direct, threshold=threshold)

    def route(self, **inputs: Any) -> Route:
        """Returns the way that these inputs take."""
        if self.threshold and length_of(inputs) <= self.threshold:
            return "direct"
        return "rlm"

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Answers by the way of these inputs; by the RLM too if they do not fit the window of the direct call's LM."""
        if self.route(**inputs) == "direct":
            try:
                return self.direct(**as_texts(inputs))
            except LMError as error:
                if not is_overflow(error):
                    raise
                self._note_overflow()
        return self.rlm(**inputs)

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """Answers as `forward` does."""
        if self.route(**inputs) == "direct":
            try:
                return await self.direct.acall(**as_texts(inputs))
            except LMError as error:
                if not is_overflow(error):
                    raise
                self._note_overflow()
        return await self.rlm.acall(**inputs)

    def _note_overflow(self) -> None:
        logger.warning(
            "The inputs do not fit the context window of the direct call; the RLM answers. A threshold below %d avoids the "
            "request.",
            self.threshold,
        )

    def dump_state(self, json_mode: bool = True) -> dict[str, Any]:
        """Returns the states of the predictors, without secrets, and the threshold."""
        return {**module_state(self, json_mode), _THRESHOLD: self.threshold}

    def load_state(self, state: dict[str, Any], **options: Any) -> Any:
        """Restores the predictors and the threshold."""
        rest = dict(state)
        self.threshold = int(rest.pop(_THRESHOLD, self.threshold))
        return super().load_state(rest, **options)


def threshold_of(
    result: ComparisonResult,
    *,
    names: tuple[str, str] = ("direct", "rlm"),
    undecided: Route = "rlm",
) -> int:
    """Returns the length up to which the direct call is at least as good at every length that was measured; 0: at none.

    Lengths beyond the longest measured item are never below the threshold.

    Raises:
        InputError: The comparison lacks one of the systems.
    """
    lacking = [name for name in names if name not in result.systems]
    if lacking:
        raise InputError(
            f"The comparison has no system {lacking[0]!r}; it has {', '.join(result.systems)}."
        )
    both = dataclasses.replace(result, systems=names)
    threshold = 0
    for one in both.advice:
        if one.verdict == "too few":
            break
        way = one.system if one.verdict == "use" else names[undecided == "rlm"]
        if way != names[0]:
            # Measured on both sides: all lengths below the edge are as those that were measured.
            return one.low if threshold else 0
        longest = max(
            pair[names[0]].length
            for pair in both.pairs
            if one.low <= pair[names[0]].length < (one.high or float("inf"))
        )
        threshold = longest
    return threshold
