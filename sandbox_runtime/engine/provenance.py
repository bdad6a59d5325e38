"""The origin of the engine's parts: their versions and hashes, as this repository has them.

The manifest beside an engine's files detects only accidents: an attacker who changes a file can change it too.
These constants come with the source. They are compared when Pyodide is fetched, and by `doctor` and `verify`; a
starting session does not read a hundred megabytes for that.
"""

from __future__ import annotations

import dataclasses
import hashlib
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

PYODIDE_VERSION = "314.0.7"
CPYTHON_VERSION = "3.14.2"
EMSCRIPTEN_VERSION = "5.0.3"

# SHA-256 of the files in the npm package of this version that are used, some of them joined into one.
PYODIDE_FILES: Mapping[str, str] = {
    "pyodide.asm.wasm": "cc36e3cab04fdfc9a63ff13eb52eae2b911bf46c025cc7b281f394bd3de1d5e6",
    "python_stdlib.zip": "fa1957e5777068fc4f7437f96d860ae2fbe9c19732ba06c84e004ec16dd7dd7a",
    "pyodide-lock.json": "5dc2fc119108bc148c7457dc86e7675b5c87e1cafd420b9c34c1eaef7b36c010",
    "pyodide.mjs": "6f1d60f7bf529beb300f0f47983c921d3982363640ba20af0e38efdddbc66109",
    "pyodide.asm.mjs": "f7cdc8ece80678ceb712f8e65ebe6d3a83203a180c399865f49612a051693635",
}

# The tested version of Deno, and the SHA-256 of its executable in each wheel of the package index.
DENO_TESTED = (2, 9, 8)
DENO_EXECUTABLES: Mapping[tuple[str, str], str] = {
    ("linux", "x86_64"): "368bca08999e02c6911b8f248167b582276b1f547db5712b6e736d7eda1dbda7",
    ("linux", "aarch64"): "b484f780e5149ca05c673f1f79f7fb466f12a2295933bdad917af4a8a5c020e8",
    ("darwin", "x86_64"): "5d206ba69742549cc161db06e86f1d93c5622e1dbc8ba9d15a618e538fbc92f4",
    ("darwin", "arm64"): "d1e99265e5e6ee096c5780d88ff7d3e6cfdf33b1953a118b4889cab8ca6980ba",
    ("win32", "amd64"): "924397800533d3eb0ed0c889b20ad70e18b970d93acd8135bc043f425e528266",
}


@dataclasses.dataclass(frozen=True)
class Advisory:
    """A known flaw of Deno: the first affected version, and the first that is fixed."""

    name: str
    first: tuple[int, int, int]
    fixed: tuple[int, int, int]
    concerns: str


# Those of Deno 2. A version in one of the ranges is not started, wherever it comes from; `docs/releasing.md`
# says when to update this. Where the first affected version is not known, it is the first of Deno 2.
DENO_ADVISORIES = (
    Advisory("CVE-2026-22864", (2, 0, 0), (2, 5, 6), "starting batch files on Windows"),
    Advisory("CVE-2026-22863", (2, 0, 0), (2, 6, 0), "ciphers of node:crypto"),
    Advisory("CVE-2026-27190", (2, 0, 0), (2, 6, 8), "arguments of shells in node:child_process"),
    Advisory("CVE-2026-55517", (2, 0, 0), (2, 7, 5), "WebSocket connections"),
    Advisory("CVE-2026-44726", (2, 0, 0), (2, 7, 8), "TLS connections of node:tls"),
    Advisory("CVE-2026-49402", (2, 0, 0), (2, 7, 10), "arguments of shells on Windows"),
    Advisory("CVE-2026-49440", (2, 0, 0), (2, 8, 1), "checkPrime of node:crypto"),
    Advisory("CVE-2026-49860", (2, 0, 0), (2, 8, 1), "--deny-net and WebSocket connections"),
)


def known_flaws(
    version: tuple[int, int, int], advisories: tuple[Advisory, ...] = DENO_ADVISORIES
) -> tuple[Advisory, ...]:
    """Returns the advisories that affect a version of Deno."""
    return tuple(one for one in advisories if one.first <= version < one.fixed)


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def expected_deno(version: tuple[int, int, int]) -> str | None:
    """Returns the expected SHA-256 of the executable for this machine; None if it is unknown."""
    if version != DENO_TESTED:
        return None
    system = "linux" if sys.platform.startswith("linux") else sys.platform
    return DENO_EXECUTABLES.get((system, platform.machine().lower()))
