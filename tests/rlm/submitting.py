"""The typed outputs of a SUBMIT, as tests of types call for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspy_rlm.signatures.outputs import refused, typed_outputs
from dspy_rlm.values.conversion import TypeRules
from dspy_rlm.values.previews import DEFAULT_RULES


def parse_outputs(
    fields: Any, values: Mapping[str, Any], rules: TypeRules = DEFAULT_RULES
) -> dict[str, Any]:
    """The outputs, or the exception that refuses them."""
    outputs, problems = typed_outputs(fields, values, rules)
    if problems:
        raise refused(problems, outputs)
    return outputs


def a_total_above_100(total: int) -> None:
    """A validator that asserts. It is here because pytest adds messages to the assertions of tests."""
    assert total > 100
