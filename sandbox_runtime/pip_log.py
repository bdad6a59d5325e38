"""What pip says when it cannot resolve or fetch, as a sentence. Text only."""

from __future__ import annotations

import re

from packaging.utils import canonicalize_name

from sandbox_runtime.pip_for_sandbox import PLATFORM


def missing_name(said: str) -> str | None:
    """The name for which pip found nothing."""
    match = re.search(r"No matching distribution found for ([A-Za-z0-9._-]+)", said)
    return match[1] if match else None


def explain(said: str, missing: str | None) -> str:
    """What pip's log says, in a sentence."""
    if missing is None:
        return f"The packages cannot be resolved: {last_words(said)}"
    if match := re.search(r"(?:connection broken by|connection error:) (.*)", said):
        fault = _without_objects(match[1].partition("': ")[0].strip("'"))
        return f"{missing} cannot be looked up, the package index is out of reach: {fault[:300]}."
    versions = re.search(
        rf"requirement {re.escape(missing)}\S* .*\(from versions: (?!none\))(.*?)\)", said
    )
    if versions:
        return f"No version of {missing} fits; for the sandbox, these exist: {versions[1][-300:].lstrip(' ,')}."
    files = re.findall(r"Skipping link: .*?: \S*/([^/\s#]+)", said)
    own = [name for name in files if _project(name) == canonicalize_name(missing)]
    platforms = sorted({_platform(name) for name in own if name.endswith(".whl")})
    if platforms:
        return (
            f"{missing} has no wheel for WebAssembly ({PLATFORM}, Python 3.14) at the package "
            f"index, only for {', '.join(platforms)}."
        )
    if own:
        return f"{missing} has no wheel at the package index, only its source."
    return f"The package index has no package {missing}."


def _project(file: str) -> str:
    """The project in the name of a wheel or a source archive."""
    at = file.find("-") if file.endswith(".whl") else file.rfind("-")
    return canonicalize_name(file[: max(at, 0)])


def _platform(wheel: str) -> str:
    """The kind of platform in a wheel's name; which one, where it is another Pyodide's."""
    tag = wheel.removesuffix(".whl").rsplit("-", 1)[-1]
    if "emscripten" in tag or "pyodide" in tag:
        return tag
    return re.split(r"[_.\d]", tag, maxsplit=1)[0]


def last_words(said: str) -> str:
    """The errors that pip names, else the exception that ended it."""
    errors = [line[7:].strip() for line in said.splitlines() if line.startswith("ERROR: ")]
    ends = re.findall(
        r"^[\w.]+(?:Error|Exception|Mismatch|Impossible)\w*: (.*)", said, re.MULTILINE
    )
    if ends and (not errors or "due to an OSError" in errors[-1]):
        errors = [*errors[:-1], ends[-1]]
    return _without_objects(" ".join(errors or said.strip().splitlines()[-3:]))[-1000:]


def _without_objects(text: str) -> str:
    """The text without the addresses of Python's objects in it."""
    return re.sub(r"'?<[\w.]+ object at 0x[0-9a-f]+>: ([^')]*)'?", r"\1", text)
