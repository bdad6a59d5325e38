"""Imported once by the server that forks the processes: what each of them would load for itself."""

from __future__ import annotations

import dspy

import tests.kill_and_resume.programs
import tests.thrifty_pool  # noqa: F401

# Reads DSPy's table of models, which takes a third of a second.
_ = dspy.LM("openai/root", api_key="none").supports_response_schema
