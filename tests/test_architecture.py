"""The boundary between the two packages. import-linter checks the folders' layers and cycles: see `pyproject.toml`."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import dspy_rlm

# The public modules of `sandbox_runtime`; everything else in it may change without notice.
PUBLIC = ("sandbox_runtime", "sandbox_runtime.helpers")


def _imports(source: str) -> Iterator[tuple[str, str]]:
    """Each module that a source imports from, with the name that it takes; without one for the module itself."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Constant) and str(node.value).startswith("sandbox_runtime."):
            yield str(node.value), ""  # the argument of `import_module`


def _private(source: str) -> list[str]:
    """Returns the imports of `sandbox_runtime` in a source that are not public names."""
    return [
        f"{module}: {name}"
        for module, name in _imports(source)
        if module.partition(".")[0] == "sandbox_runtime"
        and (module not in PUBLIC or name not in importlib.import_module(module).__all__)
    ]


def test_dspy_rlm_imports_public_names_of_the_sandbox_only():
    """No module of `dspy_rlm` imports the sandbox's internals, not even inside of functions."""
    root = Path(dspy_rlm.__file__).parent
    sources = {path: path.read_text("utf-8") for path in root.rglob("*.py")}
    found = {str(path.relative_to(root)): _private(source) for path, source in sources.items()}

    assert any("from sandbox_runtime import" in source for source in sources.values())
    assert {path: private for path, private in found.items() if private} == {}


def test_imports_of_private_modules_are_seen():
    """Imports of private modules are detected in every form and at every depth."""
    assert _private("import sandbox_runtime.pool") == ["sandbox_runtime.pool: "]
    assert _private("from sandbox_runtime.rpc import channel") == ["sandbox_runtime.rpc: channel"]
    assert _private("from sandbox_runtime import rpc") == ["sandbox_runtime: rpc"]
    assert _private("def f():\n    from sandbox_runtime.errors import SandboxError") != []
    assert _private("import_module('sandbox_runtime.values')") != []
    assert _private("from sandbox_runtime import Pool\nfrom os import path") == []


PROJECT = Path(dspy_rlm.__file__).parents[1]


def test_no_folder_has_more_modules_than_a_reader_can_hold():
    """A folder has at most fifteen modules, not counting `__init__.py` and tests; `deno/` is one program."""
    counts = {
        folder: sum(path.name != "__init__.py" for path in folder.glob("*.py"))
        for package in ("dspy_rlm", "sandbox_runtime")
        for folder in (PROJECT / package).rglob("*")
        if folder.is_dir() and "node_modules" not in folder.parts
    }

    assert len(counts) > 20
    assert {folder: count for folder, count in counts.items() if count > 15} == {}


def test_every_folder_says_what_it_owns():
    """Every `__init__.py` begins with a sentence about its folder."""
    silent = [
        str(init.relative_to(PROJECT))
        for package in ("dspy_rlm", "sandbox_runtime")
        for init in (PROJECT / package).rglob("__init__.py")
        if "node_modules" not in init.parts and not ast.get_docstring(ast.parse(init.read_text()))
    ]

    assert silent == []


# Modules that start threads by themselves, with the reason.
STARTS_THREADS = {
    "sandbox_runtime/guest/threads/thread_modules.py",  # the sandbox's own `threading`, which has no real threads
    "sandbox_runtime/threads.py",  # for all others
    "sandbox_runtime/packages/pip_guard.py",  # runs in pip's process, with the standard library only
    "dspy_rlm/live/notebook.py",  # marimo's own threads, the only ones that may write to a cell's output
    "dspy_rlm/testing/listener.py",  # `socketserver`'s own; a connection is listed before its thread starts
}


def _starts_threads(source: str) -> bool:
    names = {"Thread", "Timer", "ThreadPoolExecutor", "start_new_thread"}
    return any(
        isinstance(node, ast.Call)
        and getattr(node.func, "attr", getattr(node.func, "id", "")) in names
        for node in ast.walk(ast.parse(source))
    )


def test_threads_are_started_in_one_module():
    """So every thread is named, and is a daemon unless its work is sure to end."""
    starting = {
        str(path.relative_to(PROJECT))
        for package in ("dspy_rlm", "sandbox_runtime")
        for path in (PROJECT / package).rglob("*.py")
        if "node_modules" not in path.parts and _starts_threads(path.read_text("utf-8"))
    }

    assert starting == STARTS_THREADS


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_the_pages_for_contributors_name_files_that_exist(page):
    """A path in back-ticks exists, relative to the root, a package, or the tests."""
    roots = [PROJECT / folder for folder in ("", "dspy_rlm", "sandbox_runtime", "tests")]
    paths = re.findall(r"`([\w./-]+(?:\.py|\.ts|/))`", (PROJECT / page).read_text("utf-8"))

    assert len(paths) > 4
    assert [path for path in paths if not any((root / path).exists() for root in roots)] == []


def test_the_architecture_page_names_every_folder():
    """A newcomer finds each folder of both packages in the page, with its purpose."""
    page = (PROJECT / "docs/architecture.md").read_text("utf-8")
    folders = [
        init.parent.name
        for package in ("dspy_rlm", "sandbox_runtime")
        for init in (PROJECT / package).glob("*/__init__.py")
    ]

    assert len(folders) > 20
    assert [folder for folder in folders if f"| `{folder}/`" not in page] == []


# DSPy's documented names. An import of any other belongs into `dspy_internals/`, with a test in
# `tests/rlm/test_dspy_still_has.py`; a documented one may be added here.
PUBLIC_DSPY = {
    "dspy": [
        "Adapter",
        "MIPROv2",
        "cache",
        "configure_cache",
        "AdapterParseError",
        "Audio",
        "BaseLM",
        "ChatAdapter",
        "Code",
        "CodeExecutionError",
        "CodeInterpreter",
        "CodeInterpreterError",
        "ContextWindowExceededError",
        "Evaluate",
        "Example",
        "File",
        "FinalOutput",
        "GEPA",
        "History",
        "Image",
        "InputField",
        "JSONAdapter",
        "LM",
        "LMAuthError",
        "LMBillingError",
        "LMConfigurationError",
        "LMError",
        "LMInvalidRequestError",
        "LMLockTimeoutError",
        "LMNotConfiguredError",
        "LMRateLimitError",
        "LMServerError",
        "LMTimeoutError",
        "LMTransportError",
        "LMUnsupportedFeatureError",
        "LMUnsupportedModelError",
        "Module",
        "OutputField",
        "Parallel",
        "Predict",
        "Prediction",
        "PythonInterpreter",
        "Reasoning",
        "SandboxSerializable",
        "Signature",
        "Tool",
        "TwoStepAdapter",
        "Type",
        "XMLAdapter",
        "bootstrap_trace_data",
        "configure",
        "context",
        "ensure_signature",
        "is_retryable_lm_error",
        "lm15",
        "load",
        "settings",
        "streamify",
    ],
    "dspy.streaming": [
        "StatusMessage",
        "StatusMessageProvider",
        "StreamListener",
        "StreamResponse",
    ],
    "dspy.utils": ["BaseCallback", "with_callbacks"],
}


def _undocumented(source: str) -> list[str]:
    """Returns the names of DSPy in a source, imported or as attributes, that are not documented."""
    tree = ast.parse(source)
    used = [pair for pair in _imports(source) if pair[0].partition(".")[0] == "dspy"]
    used = [pair for pair in used if pair != ("dspy", "")]
    used += [
        ("dspy", node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "dspy"
    ]
    used += [
        (node.value, "")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and re.fullmatch(r"dspy(\.[a-z_0-9]+)+", str(node.value))
        and node.value not in PUBLIC_DSPY
    ]
    return [f"{module}: {name}" for module, name in used if name not in PUBLIC_DSPY.get(module, ())]


def test_undocumented_parts_of_dspy_are_used_in_one_folder():
    """Everything outside of `dspy_internals/` uses documented names of DSPy only.

    `repl/guest/` runs in the sandbox, where `dspy` is a module of our own.
    """
    root = Path(dspy_rlm.__file__).parent
    found = {
        str(path.relative_to(root)): _undocumented(path.read_text("utf-8"))
        for path in root.rglob("*.py")
        if "guest" not in path.parts
    }
    offending = {path for path, names in found.items() if names}

    assert {Path(path).parts[0] for path in offending} == {"dspy_internals"}


def test_undocumented_parts_of_dspy_are_seen():
    """Undocumented names are detected as imports, attributes, or arguments of `import_module`."""
    assert _undocumented("import dspy.predict.rlm") != []
    assert _undocumented("from dspy.utils.usage_tracker import UsageTracker") != []
    assert _undocumented("from dspy.utils import magicattr") != []
    assert _undocumented("import dspy\nx = dspy.clients.cache") != []
    assert _undocumented("import_module('dspy.predict')") != []
    assert _undocumented("import dspy\nfrom dspy.utils import BaseCallback\nx = dspy.Predict") == []
