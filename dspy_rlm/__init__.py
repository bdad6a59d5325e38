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

if TYPE_CHECKING:
    from dspy_rlm.comparing.compare import compare
    from dspy_rlm.comparing.result import ComparisonResult
    from dspy_rlm.comparing.router import Router
    from dspy_rlm.configuring import configure
    from dspy_rlm.drop_in import install, uninstall
    from dspy_rlm.dspy_bridge.interpreter import SandboxInterpreter
    from dspy_rlm.dspy_bridge.shipping import without_keys
    from dspy_rlm.dspy_bridge.streaming import OutputListener, StatusMessages
    from dspy_rlm.errors import (
        BudgetExceededError,
        InputError,
        JobError,
        JobStoppedError,
        RLMError,
        RunExhaustedError,
        RunFailedError,
        RunPausedError,
        SignatureError,
        SubCallError,
        ToolServerError,
        ValidatorError,
    )
    from dspy_rlm.evidence.quotes import Quote, Span
    from dspy_rlm.jobs.batch import batch
    from dspy_rlm.jobs.results.job_report import JobReport
    from dspy_rlm.jobs.results.progress import JobProgress
    from dspy_rlm.limiting.quota import Rate
    from dspy_rlm.mcp_tools.server import MCP
    from dspy_rlm.replaying.branches import branches
    from dspy_rlm.replaying.fork import fork
    from dspy_rlm.replaying.open_repl import open_repl
    from dspy_rlm.replaying.replay import replay
    from dspy_rlm.reports.report import Call, RunReport, Step, Usage
    from dspy_rlm.reports.run_result import RunResult
    from dspy_rlm.rlm import RLM
    from sandbox_runtime import (
        CodeType,
        Directory,
        HandleType,
        Limits,
        PackageError,
        Pool,
        Table,
        TextFile,
        TextStream,
        ValueType,
    )

__all__ = [
    "MCP",
    "RLM",
    "BudgetExceededError",
    "Call",
    "CodeType",
    "ComparisonResult",
    "Directory",
    "HandleType",
    "InputError",
    "JobError",
    "JobProgress",
    "JobReport",
    "JobStoppedError",
    "Limits",
    "OutputListener",
    "PackageError",
    "Pool",
    "Quote",
    "RLMError",
    "Rate",
    "Router",
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
    "Table",
    "TextFile",
    "TextStream",
    "ToolServerError",
    "Usage",
    "ValidatorError",
    "ValueType",
    "batch",
    "branches",
    "compare",
    "configure",
    "fork",
    "install",
    "open_repl",
    "replay",
    "uninstall",
    "without_keys",
]

_MODULES = {
    "dspy_rlm.comparing.compare": ("compare",),
    "dspy_rlm.comparing.result": ("ComparisonResult",),
    "dspy_rlm.comparing.router": ("Router",),
    "dspy_rlm.configuring": ("configure",),
    "dspy_rlm.drop_in": ("install", "uninstall"),
    "dspy_rlm.dspy_bridge.interpreter": ("SandboxInterpreter",),
    "dspy_rlm.dspy_bridge.shipping": ("without_keys",),
    "dspy_rlm.dspy_bridge.streaming": ("OutputListener", "StatusMessages"),
    "dspy_rlm.errors": (
        "BudgetExceededError",
        "InputError",
        "JobError",
        "JobStoppedError",
        "RLMError",
        "RunExhaustedError",
        "RunFailedError",
        "RunPausedError",
        "SignatureError",
        "SubCallError",
        "ToolServerError",
        "ValidatorError",
    ),
    "dspy_rlm.evidence.quotes": ("Quote", "Span"),
    "dspy_rlm.jobs.batch": ("batch",),
    "dspy_rlm.jobs.results.job_report": ("JobReport",),
    "dspy_rlm.jobs.results.progress": ("JobProgress",),
    "dspy_rlm.limiting.quota": ("Rate",),
    "dspy_rlm.mcp_tools.server": ("MCP",),
    "dspy_rlm.replaying.branches": ("branches",),
    "dspy_rlm.replaying.fork": ("fork",),
    "dspy_rlm.replaying.open_repl": ("open_repl",),
    "dspy_rlm.replaying.replay": ("replay",),
    "dspy_rlm.reports.report": ("Call", "RunReport", "Step", "Usage"),
    "dspy_rlm.rlm": ("RLM",),
    "dspy_rlm.reports.run_result": ("RunResult",),
    "sandbox_runtime": (
        "CodeType",
        "Directory",
        "HandleType",
        "Limits",
        "PackageError",
        "Pool",
        "Table",
        "TextFile",
        "TextStream",
        "ValueType",
    ),
}

# Names are imported on first use: DSPy takes a second, the sandbox's package 0.2 s, and `dspy-rlm --help` needs neither.
_LAZY = {name: module for module, names in _MODULES.items() for name in names}

# The modules that are attributes of the package without an import of their own.
_PUBLIC_MODULES = frozenset({"errors", "journal", "ray", "report", "run_result", "tracing"})


def __getattr__(name: str) -> Any:
    if name in _PUBLIC_MODULES:
        return import_module(f"dspy_rlm.{name}")
    if name not in _LAZY:
        raise AttributeError(f"module 'dspy_rlm' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
