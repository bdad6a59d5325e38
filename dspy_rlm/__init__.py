"""Recursive Language Models for DSPy.

    import dspy, dspy_rlm

    dspy.configure(lm=dspy.LM("openai/gpt-4o"))
    rlm = dspy_rlm.RLM("logs, question -> answer: str, lines: list[int]")
    rlm(logs=two_hundred_megabytes, question="Who broke the build?").answer

The inputs stay out of the prompt: they are variables in a sandboxed Python REPL, which the LM explores
with code and with calls to cheaper sub-LMs.
"""

from dspy_rlm.errors import (
    BudgetExceededError,
    InputError,
    RLMError,
    RunFailedError,
    SignatureError,
)
from dspy_rlm.interpreter import SandboxInterpreter
from dspy_rlm.rlm import RLM
from dspy_rlm.trajectory import RunReport, Step
from sandbox_runtime import Limits

__all__ = [
    "RLM",
    "BudgetExceededError",
    "InputError",
    "Limits",
    "RLMError",
    "RunFailedError",
    "RunReport",
    "SandboxInterpreter",
    "SignatureError",
    "Step",
]
