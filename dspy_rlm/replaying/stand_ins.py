"""Builds an RLM from a journal alone: its signature, its limits, and stand-ins for its LMs and tools.

A stand-in is never used for what is recorded. Its turn comes when the run leaves the record, and then it says what is
missing. The types of a signature are read as those that cells write: a journal names no module to import.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import dspy

from dspy_rlm.budget.budget import Budget
from dspy_rlm.errors import InputError
from dspy_rlm.journal.records import FieldRecord, RunRecord, read_text
from dspy_rlm.predictor import ActionPredictor
from dspy_rlm.recorded.exceptions import NotRecordedError
from dspy_rlm.replaying.stand_in_tools import stand_in_tool
from dspy_rlm.rlm import RLM
from dspy_rlm.signatures.cell_types import class_kinds
from dspy_rlm.signatures.parser import signature_of
from sandbox_runtime import Limits

# Kinds of values that no field of type `str` has.
_NO_TEXT = ("json", "bytes", "npy", "parquet")


class StandIn(dspy.LM):
    """An LM of a recorded run, of which only the name is known."""

    def __init__(self, model: str, *, takes_schemas: bool = False) -> None:
        super().__init__(model, cache=False, num_retries=0)
        self.takes_schemas = takes_schemas

    @property
    def supports_response_schema(self) -> bool:
        """True if its server constrained replies to a schema, which the prompts depend on."""
        return self.takes_schemas

    @property
    def supported_params(self) -> set[str]:
        """The parameters that it takes."""
        return {"response_format"} if self.takes_schemas else set()

    def forward(self, *args: Any, **options: Any) -> Any:
        """Refuses: nothing is sent."""
        raise NotRecordedError(
            f"The journal has no answer to this call of {self.model}. Pass the LM to go on with it."
        )

    aforward = forward


def module_for(
    record: RunRecord,
    rlm: RLM | None = None,
    *,
    lm: dspy.BaseLM | None = None,
    instructions: str | None = None,
    prices: Mapping[str, tuple[float, float]] | None = None,
) -> RLM:
    """Returns an RLM that can repeat a recorded run.

    Args:
        record: The run.
        rlm: The RLM to use; it is not changed. None: one is built from the record.
        lm: The LM that writes the code, instead of its own.
        instructions: The instructions of the task, instead of its own.
        prices: The prices, instead of its own.
    """
    module: RLM = copy.copy(rlm) if rlm is not None else built(record)
    config = module._config
    if instructions is not None:
        config = dataclasses.replace(
            config, signature=config.signature.with_instructions(instructions)
        )
    if prices is not None:
        config = dataclasses.replace(
            config, budget=dataclasses.replace(config.budget, prices=prices)
        )
    module._config = dataclasses.replace(config, journal=False)
    before = module.generate_action
    predictor = copy.copy(before)
    if instructions is not None:
        predictor = ActionPredictor(module.default_signature())
        predictor.lm, predictor.demos = before.lm, before.demos
    if lm is not None:
        predictor.lm = lm
    module.generate_action = predictor
    return module


def built(record: RunRecord) -> RLM:
    """Returns an RLM with the settings of the record, and with stand-ins for LMs and tools.

    Raises:
        InputError: The run used packages.
    """
    settings = record.config
    if packages := settings.get("packages"):
        raise InputError(
            f"The run used packages ({', '.join(map(str, packages))}), which a journal does not name as a package index "
            "does. Pass rlm=, an RLM with these packages."
        )
    models: Mapping[str, Any] = settings.get("models", {})
    limits: Mapping[str, Any] = settings.get("budget", {})
    names = {field.name for field in dataclasses.fields(Budget)}
    budget = {name: value for name, value in limits.items() if name in names}
    with_schemas = {
        call.model for call in record.calls() if "response_format" in (call.options or {})
    }

    def stand_in(model: Any) -> StandIn:
        return StandIn(str(model), takes_schemas=model in with_schemas)

    descriptions = settings.get("descriptions", {})
    subs: dict[str, Any] = {
        name: (stand_in(model), descriptions[name]) if name in descriptions else stand_in(model)
        for name, model in (models.get("sub") or {}).items()
    }
    options = {name: budget[name] for name in ("max_iterations",) if name in budget}
    module = RLM(
        signature_from(record),
        sub_lm=subs.get("") or subs or None,
        tools=[
            stand_in_tool(name, settings.get("tool_docs", {}).get(name, {}))
            for name in settings.get("tools", ())
        ],
        style=settings.get("style", "default"),
        on_exhausted=settings.get("on_exhausted", "extract"),
        limits=Limits(output_chars=settings.get("max_output_chars", Limits.output_chars)),
        journal=False,
        **options,
    )
    module.budget = Budget(**budget)
    module.generate_action.lm = stand_in(models.get("root") or "unknown")
    if text := settings.get("policy"):
        predictor = module.generate_action
        predictor.signature = predictor.signature.with_instructions(read_text(text))
    return module


def signature_from(record: RunRecord) -> type[dspy.Signature]:
    """Returns the signature of a run. Its classes have fields only; what cannot be built becomes `Any`."""
    recorded = record.signature
    known: dict[str, str] = {}
    classes: Mapping[str, Any] = record.config.get("classes") or {}
    for field in (*recorded.inputs, *recorded.outputs):
        known[field.name] = field.annotation if _is_known(field, classes) else "Any"

    def written(field: FieldRecord) -> str:
        value = record.inputs.get(field.name)
        if known[field.name] == "str" and value is not None and value.kind in _NO_TEXT:
            return field.name  # its type was not declared
        return f"{field.name}: {known[field.name]}"

    def side(fields: tuple[FieldRecord, ...]) -> str:
        return ", ".join(map(written, fields))

    signature: Any = _parsed(f"{side(recorded.inputs)} -> {side(recorded.outputs)}", classes)
    for field in (*recorded.inputs, *recorded.outputs):
        if field.description:
            signature = signature.with_updated_fields(field.name, desc=read_text(field.description))
    whole: type[dspy.Signature] = signature.with_instructions(read_text(recorded.instructions))
    return whole


def unknown_types(record: RunRecord) -> list[str]:
    """Returns the names of the fields with types of the program's own."""
    fields = (*record.signature.inputs, *record.signature.outputs)
    return [field.name for field in fields if not _is_known(field, {})]


def _is_known(field: FieldRecord, classes: Mapping[str, Any]) -> bool:
    try:
        _parsed(f"of_{field.name} -> {field.name}: {field.annotation}", classes)
    except Exception:  # noqa: BLE001 - whatever a text from a file does to the parser
        return False
    return True


def _parsed(text: str, classes: Mapping[str, Any]) -> type[dspy.Signature]:
    return signature_of({"signature": text, "classes": classes}, {}, {}, class_kinds())
