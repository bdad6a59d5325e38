"""Runs pip for the sandbox, on the host: what to install, and the files themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox_runtime import pip_for_sandbox
from sandbox_runtime.errors import PackageError
from sandbox_runtime.pip_log import last_words

PYTHON_VERSION = pip_for_sandbox.MARKERS["python_full_version"]
TAGS = (
    *("--platform", pip_for_sandbox.PLATFORM),
    *("--implementation", "cp", "--abi", "cp314", "--abi", "abi3"),
)

# A resolution or a download that takes longer than this has failed.
PIP_SECONDS = 600

_NO_PIP = (
    f"{sys.executable or 'This Python'} has no pip, which resolves packages for the sandbox. "
    'Install it with: python -m ensurepip (or "uv pip install pip")'
)

# Settings of the user's that make no sense here; where the index is and how to reach it stays.
_PIP_ENVIRONMENT = {
    "PIP_USER": "0",
    "PIP_QUIET": "0",
    "PIP_REQUIRE_HASHES": "0",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_NO_COLOR": "1",
    "PIP_RETRIES": "2",
    "PYTHONIOENCODING": "utf-8",
}

Found = Mapping[str, Any]
"""pip's report on one package."""


def report(wanted: Sequence[str], workshop: Path, sources: list[str]) -> list[Found] | str:
    """pip's report on what to install, or what it said when it could not."""
    report = workshop / "report.json"
    options = ["--dry-run", "--ignore-installed", "--target", str(workshop / "nowhere")]
    said = _pip("install", [*options, "--report", str(report), *sources, *wanted])
    if said is not None:
        return said
    told = json.loads(report.read_text(encoding="utf-8"))
    if told["environment"].get("sys_platform") != pip_for_sandbox.MARKERS["sys_platform"]:
        raise PackageError(
            f"pip {told.get('pip_version')} cannot be made to resolve for the sandbox. "
            "Install another: pip install --upgrade pip"
        )
    return list(told["install"])


def download(
    found: list[Found], folder: Path, workshop: Path, sources: list[str], place: str
) -> None:
    """Lets pip fetch the very files of its report, held to their hashes."""
    lines = []
    for item in found:
        name, version = item["metadata"]["name"], item["metadata"]["version"]
        exact = f"{name} @ {item['download_info']['url']}"
        wanted = exact if item.get("is_direct") else f"{name}=={version}"
        lines.append(f"{wanted} --hash=sha256:{sha256_of(item)}\n")
    pins = workshop / "pins.txt"
    pins.write_text("".join(lines), encoding="utf-8")
    options = ["--no-deps", "--require-hashes", "--dest", str(folder)]
    said = _pip("download", [*options, *sources, "-r", str(pins)])
    if said is not None:
        where = f" (some are from {place})" if sources else ""
        raise PackageError(f"Packages could not be fetched{where}: {last_words(said)}")


def _pip(command: str, arguments: list[str]) -> str | None:
    """Runs pip for the sandbox; what it said if it failed."""
    if not sys.executable:
        raise PackageError(_NO_PIP)
    program = ["-P", pip_for_sandbox.__file__]
    for_sandbox = ["--only-binary=:all:", "--python-version", PYTHON_VERSION, *TAGS]
    try:
        done = subprocess.run(
            [sys.executable, *program, command, "-vv", *for_sandbox, *arguments],
            env={**os.environ, **_PIP_ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=PIP_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PackageError(f"pip did not end within {PIP_SECONDS} s.") from error
    if done.returncode == pip_for_sandbox.NO_PIP:
        raise PackageError(_NO_PIP)
    return done.stdout if done.returncode != 0 else None


def sha256_of(item: Found) -> str:
    """What pip has reported of a file. Raises `PackageError` if that has no hash."""
    name = item["metadata"]["name"]
    try:
        digest = str(item["download_info"]["archive_info"]["hashes"]["sha256"])
    except KeyError as error:
        raise PackageError(f"Neither pip nor the index tells a SHA-256 of {name}.") from error
    return digest
