"""The prediction of a run: DSPy's, with plain data as fields, and the report as an attribute beside them.

Programs take predictions apart: they serialize, count, compare and merge the fields. So the report, which is
none of the outputs, is not among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy

from dspy_rlm.live.page import page_of_prediction
from dspy_rlm.reports.report import RunReport


class RLMPrediction(dspy.Prediction):
    """The outputs of a run, `trajectory` and `final_reasoning` as fields; `run` is the report.

    The outputs come last: `dspy.majority` compares the last field, as it does for `dspy.Predict`.
    """

    def __init__(self, base: Any = None, **fields: Any) -> None:
        """Holds these fields. A copy of a prediction keeps its report."""
        super().__init__(base, **fields)
        self._run: RunReport | None = getattr(base, "_run", None)

    @classmethod
    def of_run(
        cls, outputs: Mapping[str, Any], final_reasoning: str, run: RunReport
    ) -> RLMPrediction:
        """Returns the prediction of a run that has ended."""
        fields = {"trajectory": run.trajectory, "final_reasoning": final_reasoning, **outputs}
        # With completions, of which there is one, as `dspy.Predict` returns them.
        prediction: RLMPrediction = cls.from_completions(
            {n: [value] for n, value in fields.items()}
        )
        prediction._run = run
        return prediction

    @property
    def run(self) -> RunReport:
        """The report of the run."""
        if self._run is None:
            raise AttributeError("This prediction has no report: no run returned it.")
        return self._run

    def _repr_html_(self) -> str:
        """Returns what notebooks show: the outputs, and the steps of the run, folded."""
        outputs = {
            name: value
            for name, value in self._store.items()
            if name not in ("trajectory", "final_reasoning")
        }
        return page_of_prediction(outputs, self._run)

    def __hash__(self) -> int:
        """Hashes the fields without the trajectory, which is a list; so sets of predictions work."""
        return hash(frozenset((k, v) for k, v in self._store.items() if k != "trajectory"))
