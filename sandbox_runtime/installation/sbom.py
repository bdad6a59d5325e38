"""The bill of materials of the sandbox, as CycloneDX 1.6: the wheel's contents, and its runtime dependencies.

Generated when a wheel is built, where it goes to `.dist-info/sboms` (PEP 770), and by `python -m sandbox_runtime
sbom` for the local installation. Pure, except that it hashes files.
"""

from __future__ import annotations

import base64
import datetime
import importlib.metadata
import json
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.markers import UndefinedEnvironmentName
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sandbox_runtime.engine import assets
from sandbox_runtime.engine.provenance import (
    CPYTHON_VERSION,
    DENO_EXECUTABLES,
    DENO_TESTED,
    EMSCRIPTEN_VERSION,
    PYODIDE_FILES,
    PYODIDE_VERSION,
    sha256_of,
)

FILE_NAME = "dspy-rlm.cdx.json"

_OWN = "dspy-rlm"
# An arbitrary constant: the serial number is derived from it and the contents.
_NAMESPACE = uuid.UUID("5f0c9d5e-0f0e-5b7c-9a51-6d2f6f2c6b11")

Entry = dict[str, Any]
Installed = Callable[[str], tuple[str, list[str]] | None]
"""Returns the version and the requirements of a distribution; None if it is not installed."""


def make_sbom(
    version: str,
    engine: Path,
    v8_version: str,
    requirements: Iterable[str],
    installed: Installed = lambda _: None,
) -> str:
    """Returns the bill of materials as JSON text, the same for the same parts.

    Args:
        version: The version of this project.
        engine: The folder with the engine's files.
        v8_version: The version of V8 in the Deno that compiled and imaged them.
        requirements: The dependencies of this project.
        installed: Looks up an installed distribution; without it, dependencies have only their version ranges.
    """
    own = f"pkg:pypi/{_OWN}@{version}"
    carried = [_pyodide(), _cpython(), _emscripten(), *_files(engine)]
    runtime = [_deno(), _v8(v8_version)]
    python, edges = _python(requirements, installed)
    components = sorted([*carried, *runtime, *python], key=lambda one: str(one["bom-ref"]))
    edges[own] = sorted(
        {one["bom-ref"] for one in [*carried, *runtime]}
        | {_python_ref(one) for one in requirements}
    )
    edges[_deno()["bom-ref"]] = [_v8(v8_version)["bom-ref"]]
    edges[_pyodide()["bom-ref"]] = sorted([_cpython()["bom-ref"], _emscripten()["bom-ref"]])
    refs = {one["bom-ref"] for one in components} | {own}
    body = {
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": own,
                "name": _OWN,
                "version": version,
                "purl": own,
                "licenses": [{"license": {"id": "MIT"}}],
            },
            "lifecycles": [{"phase": "build"}],
        },
        "components": components,
        "dependencies": [
            {"ref": ref, "dependsOn": [one for one in edges.get(ref, []) if one in refs]}
            for ref in sorted(refs)
        ],
    }
    serial = uuid.uuid5(_NAMESPACE, json.dumps(body, sort_keys=True))
    metadata = {"timestamp": _timestamp(), **body["metadata"]}  # type: ignore[dict-item]
    head = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
    }
    return json.dumps({**head, **body, "metadata": metadata}, indent=2) + "\n"


def sbom_here(v8_version: str) -> str:
    """Returns the bill of materials of this installation. Raises an `EngineError` if there is no engine."""
    try:
        own = importlib.metadata.distribution(_OWN)
        version, requirements = own.version, _applicable(own.requires or [])
    except importlib.metadata.PackageNotFoundError:
        version, requirements = "0", []
    return make_sbom(version, assets.find_engine().folder, v8_version, requirements, _look_up)


def _timestamp() -> str:
    """Returns the current time, or `SOURCE_DATE_EPOCH` if a reproducible build sets it."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.now(datetime.UTC)
    moment = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC) if epoch else now
    return moment.replace(microsecond=0).isoformat()


# ---- Contents of the wheel -------------------------------------------------------------------------


def _pyodide() -> Entry:
    ref = f"pkg:npm/pyodide@{PYODIDE_VERSION}"
    lock = json.loads((assets.SOURCE_FOLDER / "deno.lock").read_text(encoding="utf-8"))
    integrity = lock["npm"][f"pyodide@{PYODIDE_VERSION}"]["integrity"].removeprefix("sha512-")
    return {
        "type": "framework",
        "bom-ref": ref,
        "name": "pyodide",
        "version": PYODIDE_VERSION,
        "purl": ref,
        "hashes": [{"alg": "SHA-512", "content": base64.b64decode(integrity).hex()}],
        "licenses": [{"license": {"id": "MPL-2.0"}}],
        "components": [
            _file(name, digest, f"{ref}#{name}") for name, digest in sorted(PYODIDE_FILES.items())
        ],
    }


def _cpython() -> Entry:
    return {
        "type": "platform",
        "bom-ref": f"pkg:generic/cpython@{CPYTHON_VERSION}",
        "name": "cpython",
        "version": CPYTHON_VERSION,
        "cpe": f"cpe:2.3:a:python:python:{CPYTHON_VERSION}:*:*:*:*:*:*:*",
        "purl": f"pkg:generic/cpython@{CPYTHON_VERSION}",
        "licenses": [{"license": {"id": "PSF-2.0"}}],
    }


def _emscripten() -> Entry:
    ref = f"pkg:generic/emscripten@{EMSCRIPTEN_VERSION}"
    return {
        "type": "framework",
        "bom-ref": ref,
        "name": "emscripten",
        "version": EMSCRIPTEN_VERSION,
        "purl": ref,
        "description": "The toolchain, and the C library in pyodide.asm.wasm",
    }


def _files(engine: Path) -> Iterable[Entry]:
    """Returns the engine's files by their names in the wheel; the boot image contains no packages but our own."""
    for name in assets.INSTALLED_FILES:
        yield _file(
            f"sandbox_runtime/engine/files/{name}", sha256_of(engine / name), f"file:{name}"
        )


def _file(name: str, digest: str, ref: str) -> Entry:
    hashes = [{"alg": "SHA-256", "content": digest}]
    return {"type": "file", "bom-ref": ref, "name": name, "hashes": hashes}


# ---- Runtime dependencies --------------------------------------------------------------------------


def _deno() -> Entry:
    version = ".".join(map(str, DENO_TESTED))
    ref = f"pkg:pypi/deno@{version}"
    return {
        "type": "platform",
        "bom-ref": ref,
        "name": "deno",
        "version": version,
        "cpe": f"cpe:2.3:a:deno:deno:{version}:*:*:*:*:*:*:*",
        "purl": ref,
        "licenses": [{"license": {"id": "MIT"}}],
        "description": "The tested version; the package of the same name carries it",
        "components": [
            _file(f"deno ({system} {machine})", digest, f"{ref}#{system}-{machine}")
            for (system, machine), digest in sorted(DENO_EXECUTABLES.items())
        ],
    }


def _v8(version: str) -> Entry:
    ref = f"pkg:generic/v8@{version}"
    return {
        "type": "library",
        "bom-ref": ref,
        "name": "v8",
        "version": version,
        "purl": ref,
        "description": "In Deno; the cache of compiled code is its own",
    }


def _python(
    requirements: Iterable[str], installed: Installed
) -> tuple[list[Entry], dict[str, list[str]]]:
    """Returns the Python packages that this project needs, with their own dependencies as far as known."""
    entries: dict[str, Entry] = {}
    edges: dict[str, list[str]] = {}
    pending = list(requirements)
    while pending:
        requirement = Requirement(pending.pop())
        ref = _python_ref(str(requirement))
        if ref in entries or canonicalize_name(requirement.name) == "deno":
            continue
        distribution = installed(requirement.name)
        entry: Entry = {"type": "library", "bom-ref": ref, "name": requirement.name}
        if distribution is None:
            entry["purl"] = ref
            specifier = str(requirement.specifier) or "any"
            entry["properties"] = [{"name": "dspy-rlm:required", "value": specifier}]
        else:
            entry["version"], needs = distribution
            entry["purl"] = f"{ref}@{distribution[0]}"
            edges[ref] = sorted({_python_ref(line) for line in needs})
            pending += needs
        entries[ref] = entry
    return list(entries.values()), edges


def _python_ref(requirement: str) -> str:
    name = canonicalize_name(Requirement(requirement).name)
    return str(_deno()["bom-ref"]) if name == "deno" else f"pkg:pypi/{name}"


def _look_up(name: str) -> tuple[str, list[str]] | None:
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return distribution.version, _applicable(distribution.requires or [])


def _applicable(requires: Iterable[str]) -> list[str]:
    """Returns the requirements that apply on this machine, without those of extras."""
    return [line for line in requires if _applies(Requirement(line), {"extra": ""})]


def _applies(requirement: Requirement, environment: Mapping[str, str]) -> bool:
    try:
        return requirement.marker is None or requirement.marker.evaluate(dict(environment))
    except UndefinedEnvironmentName:
        return False
