"""The API reference: which public names there are, read from the source without importing it, and the pages that list them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from website.api_examples import read_examples
from website.staging import with_notes

# The headings of a page, each with its names. A public name that no heading has comes under "Others".
Groups = Mapping[str, Sequence[str]]

DSPY_RLM: Groups = {
    "The module": ("RLM", "configure", "install", "uninstall"),
    "Inputs": (
        "TextFile",
        "TextStream",
        "Directory",
        "Table",
        "ValueType",
        "CodeType",
        "HandleType",
    ),
    "Sandboxes": ("Limits", "Pool", "SandboxInterpreter"),
    "Tools": ("MCP",),
    "Results": ("RunResult", "RunReport", "Step", "Call", "Usage", "Quote", "Span"),
    "Many rows": ("batch", "JobReport", "JobProgress", "Rate", "without_keys"),
    "Comparing systems": ("ComparisonResult", "Router"),
    "Recorded runs": ("replay", "fork", "branches", "compare", "open_repl"),
    "Streaming": ("OutputListener", "StatusMessages"),
    "Errors": (
        *(
            "RLMError",
            "SignatureError",
            "InputError",
            "RunFailedError",
            "RunPausedError",
            "RunExhaustedError",
        ),
        *(
            "BudgetExceededError",
            "SubCallError",
            "ToolServerError",
            "ValidatorError",
            "PackageError",
        ),
    ),
}
SANDBOX_RUNTIME: Groups = {
    "Opening a sandbox": ("open_session", "Limits", "Session", "Sandbox", "Checkpoint"),
    "Pools": ("Pool", "default_pool", "set_default_pool"),
    "Cells and their results": ("Completed", "Submitted", "Failed", "CellResult"),
    "Tools": ("HostTool", "WrappedTool", "OwnLines", "check_call"),
    "Texts, folders and tables": ("TextFile", "TextStream", "Directory", "LazyText", "Table"),
    "Values": ("ValueType", "CodeType", "HandleType", "Rule", "Rows"),
    "Packages": ("Package", "PackageSet", "resolve_packages"),
}
ERRORS = "Errors"
OTHERS = "Others"


@dataclass(frozen=True)
class Module:
    """One package or module of the reference."""

    name: str
    groups: Groups


PAGES: Mapping[str, tuple[str, Sequence[Module]]] = {
    "api/dspy_rlm.md": ("API: `dspy_rlm`", [Module("dspy_rlm", DSPY_RLM)]),
    "api/sandbox_runtime.md": (
        "API: `sandbox_runtime`",
        [Module("sandbox_runtime", SANDBOX_RUNTIME)],
    ),
    "api/modules.md": (
        "API: other public modules",
        [
            Module("dspy_rlm.testing", {}),
            Module("dspy_rlm.sources", {}),
            Module("dspy_rlm.journal", {}),
            Module("dspy_rlm.optimize", {}),
            Module("dspy_rlm.tracing", {}),
        ],
    ),
}


def public_names(module: Any) -> list[str]:
    """Returns the names in the `__all__` of a module that griffe has loaded, or else its public functions and classes."""
    if module.exports is not None:
        return sorted(str(name) for name in module.exports)
    return sorted(
        name
        for name, member in module.members.items()
        if not name.startswith("_")
        and not member.is_alias
        and (member.is_function or member.is_class)
    )


def sections(names: Sequence[str], groups: Groups) -> dict[str, list[str]]:
    """Returns the names under their headings: each once, whatever `groups` forgets or has too much."""
    left, result = set(names), dict[str, list[str]]()
    for heading, members in groups.items():
        result[heading] = [name for name in members if name in left]
        left -= set(members)
    errors = sorted(name for name in left if name.endswith("Error"))
    result.setdefault(ERRORS, []).extend(errors)
    result[OTHERS] = sorted(left - set(errors))
    return {heading: members for heading, members in result.items() if members}


def write_pages(root: Path) -> dict[str, str]:
    """Returns the Markdown of each page of the reference, by its path in the site."""
    import griffe

    loader = griffe.GriffeLoader(search_paths=[root])
    for package in ("sandbox_runtime", "dspy_rlm"):
        loader.load(package)
    texts = {}
    for page, (title, modules) in PAGES.items():
        examples = read_examples(page)
        lines = [f"# {title}", ""]
        if len(modules) == 1:
            lines += [
                f"Everything that `from {modules[0].name} import ...` has. Only these names are public.",
                "",
            ]
        lines += [
            f'??? note "The lines before each example"\n\n{_indented(examples.introduction)}',
            "",
        ]
        for module in modules:
            loaded = loader.modules_collection[module.name]
            lines += _module(module, loaded, examples.sections, alone=len(modules) == 1)
        texts[page] = "\n".join(lines) + "\n"
    return texts


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def _module(module: Module, loaded: Any, examples: Mapping[str, str], *, alone: bool) -> list[str]:
    names = public_names(loaded)
    if alone:
        lines = []
        for heading, members in sections(names, module.groups).items():
            lines += [f"## {heading}", "", *_entries(module.name, loaded, members, examples)]
        return lines
    summary = loaded.docstring.value.splitlines()[0] if loaded.docstring else ""
    entries = _entries(module.name, loaded, names, examples)
    return [f"## `{module.name}`", "", summary, "", *entries]


def _member(loaded: Any, name: str) -> Any:
    """Returns a member of a package; where a module of it has the same name, what that module defines."""
    member = loaded.members[name]
    return member.members[name] if member.is_module else member


def _entries(
    module: str, loaded: Any, names: Sequence[str], examples: Mapping[str, str]
) -> list[str]:
    lines = []
    for name in names:
        member = _member(loaded, name)
        path = member.canonical_path if member.is_alias else member.path
        # The members come after the example, each by a directive of its own; with the inherited constructor, the class
        # still has its parameters.
        lines += [
            f'<span id="{module}.{name}"></span>',
            "",
            *_directive(path, members="false", inherited_members="[__init__]"),
        ]
        if example := examples.get(f"{module}.{name}"):
            lines += ["**Example:**", "", with_notes(example), ""]
        for child in _documented(member):
            lines += _directive(f"{path}.{child}", heading_level="4")
    return lines


def _directive(path: str, **options: str) -> list[str]:
    chosen = (f"      {name}: {value}" for name, value in options.items())
    return [f"::: {path}", "    options:", *chosen, ""]


def _documented(member: Any) -> list[str]:
    """Returns the public members of a class that have a docstring, its own before those that it inherits."""
    target = member.final_target if member.is_alias else member
    if not target.is_class:
        return []
    return [
        name
        for name, one in [*target.members.items(), *target.inherited_members.items()]
        if not name.startswith("_") and (one.inherited or not one.is_alias) and one.docstring
    ]
