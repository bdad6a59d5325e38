"""GEPA's own proposer of instructions. Needs the `gepa` package."""

from __future__ import annotations

from dspy.teleprompt.gepa import InstructionProposer

__all__ = ["InstructionProposer"]
