"""A plugin for the pytest that runs DSPy's tests: `dspy.RLM` and `dspy.PythonInterpreter` are ours there."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import pytest

# The file for the outcomes, and a switch that leaves DSPy's own classes in place.
OUTCOMES, THEIRS = "DSPYS_OWN_OUTCOMES", "DSPYS_OWN_THEIRS"

_outcomes: dict[str, str] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Puts ours in place before a module of the tests is imported."""
    _without_its_server()
    if not os.environ.get(THEIRS):
        _ours_in_place()


def pytest_configure(config: pytest.Config) -> None:
    """Declares what a plugin of theirs would."""
    config.addinivalue_line("markers", "asyncio: a coroutine function")


def _without_its_server() -> None:
    """Its conftest imports an LM server, which none of these tests asks."""
    server = types.ModuleType("tests.test_utils.server")
    for name in (
        "_litellm_test_server",
        "litellm_test_server",
        "read_litellm_test_server_request_logs",
    ):
        setattr(server, name, None)
    sys.modules["tests.test_utils"] = types.ModuleType("tests.test_utils")
    sys.modules["tests.test_utils.server"] = server


def _ours_in_place() -> None:
    import dspy.predict.code_act
    import dspy.predict.program_of_thought
    import dspy.predict.rlm
    import dspy.primitives.python_interpreter

    import dspy_rlm

    dspy_rlm.install()
    theirs = dspy.primitives.python_interpreter.PythonInterpreter
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "dspy" and getattr(module, "PythonInterpreter", None) is theirs:
            setattr(module, "PythonInterpreter", dspy_rlm.SandboxInterpreter)  # noqa: B010


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> bool | None:
    """Runs a coroutine function to its end."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keeps the worst that a test's three phases said."""
    if report.when == "call" or report.outcome != "passed":
        text = str(report.longreprtext)[-2_000:] if report.failed else ""
        if not _outcomes.get(report.nodeid, "").startswith("failed"):
            _outcomes[report.nodeid] = f"{report.outcome} {text}"


def pytest_sessionfinish() -> None:
    """Writes the outcomes of the session as JSON, for the test that compares them."""
    Path(os.environ[OUTCOMES]).write_text(json.dumps(_outcomes), "utf-8")
