"""Recursive Language Models for DSPy.

    import dspy, dspy_rlm

    dspy.configure(lm=dspy.LM("openai/gpt-5"))
    rlm = dspy_rlm.RLM("logs, question -> answer: str, lines: list[int]")
    rlm(logs=two_hundred_megabytes, question="Who broke the build?").answer

The inputs stay out of the prompt: they are variables in a sandboxed Python REPL, which the LM explores
with code and with calls to cheaper sub-LMs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dspy_rlm.errors import (
    BudgetExceededError,
    InputError,
    RLMError,
    RunExhaustedError,
    RunFailedError,
    RunPausedError,
    SignatureError,
    SubCallError,
    ValidatorError,
)
from dspy_rlm.report import Call, RunReport, Step, Usage
from dspy_rlm.run_result import RunResult
from sandbox_runtime import (
    CodeType,
    Directory,
    HandleType,
    Limits,
    PackageError,
    Pool,
    TextFile,
    TextStream,
    ValueType,
)

if TYPE_CHECKING:
    from dspy_rlm.configuring import configure
    from dspy_rlm.drop_in import install, uninstall
    from dspy_rlm.dspy_bridge.interpreter import SandboxInterpreter
    from dspy_rlm.dspy_bridge.streaming import OutputListener, StatusMessages
    from dspy_rlm.evidence.quotes import Quote, Span
    from dspy_rlm.replaying.branches import branches
    from dspy_rlm.replaying.compare import compare
    from dspy_rlm.replaying.fork import fork
    from dspy_rlm.replaying.open_repl import open_repl
    from dspy_rlm.replaying.replay import replay
    from dspy_rlm.rlm import RLM

__all__ = [
    "RLM",
    "BudgetExceededError",
    "Call",
    "CodeType",
    "Directory",
    "HandleType",
    "InputError",
    "Limits",
    "OutputListener",
    "PackageError",
    "Pool",
    "Quote",
    "RLMError",
    "RunExhaustedError",
    "RunFailedError",
    "RunPausedError",
    "RunReport",
    "RunResult",
    "SandboxInterpreter",
    "SignatureError",
    "Span",
    "StatusMessages",
    "Step",
    "SubCallError",
    "TextFile",
    "TextStream",
    "Usage",
    "ValidatorError",
    "ValueType",
    "branches",
    "compare",
    "configure",
    "fork",
    "install",
    "open_repl",
    "replay",
    "uninstall",
]

# These import DSPy, which takes a second; `dspy-rlm --help` does not need it.
_LAZY = {
    "OutputListener": "dspy_rlm.dspy_bridge.streaming",
    "Quote": "dspy_rlm.evidence.quotes",
    "RLM": "dspy_rlm.rlm",
    "branches": "dspy_rlm.replaying.branches",
    "compare": "dspy_rlm.replaying.compare",
    "configure": "dspy_rlm.configuring",
    "fork": "dspy_rlm.replaying.fork",
    "open_repl": "dspy_rlm.replaying.open_repl",
    "replay": "dspy_rlm.replaying.replay",
    "SandboxInterpreter": "dspy_rlm.dspy_bridge.interpreter",
    "Span": "dspy_rlm.evidence.quotes",
    "StatusMessages": "dspy_rlm.dspy_bridge.streaming",
    "install": "dspy_rlm.drop_in",
    "uninstall": "dspy_rlm.drop_in",
}


def __getattr__(name: str) -> Any:
    if name in ("journal", "tracing"):
        return import_module(f"dspy_rlm.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'dspy_rlm' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
