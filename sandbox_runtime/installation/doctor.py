"""`python -m sandbox_runtime doctor`: tries every part of the sandbox in order, and reports as text or JSON.

The JSON has its own version, `SCHEMA`, which changes when a field is removed or changes its meaning; new fields
may be added without. `docs/doctor.md` describes it.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from sandbox_runtime.engine import assets
from sandbox_runtime.engine import deno as executable
from sandbox_runtime.engine.provenance import DENO_ADVISORIES
from sandbox_runtime.engine.trial import DENO_FIX
from sandbox_runtime.errors import SandboxError, WallProbeError
from sandbox_runtime.installation.verify import check_deno, check_files
from sandbox_runtime.isolation.os_isolation import detect
from sandbox_runtime.limits import Limits
from sandbox_runtime.sandbox import Completed
from sandbox_runtime.sessions.session import Session

SCHEMA = 1

Facts = Mapping[str, object]


@dataclasses.dataclass(frozen=True)
class Check:
    """The result of trying one part."""

    name: str
    ok: bool
    milliseconds: float
    detail: str
    """One line: the part's state, or the error."""

    fix: str = ""
    """The remedy, if the part failed or could be better."""

    facts: Facts = dataclasses.field(default_factory=dict)
    """Machine-readable facts about the part; empty if it failed."""

    def __str__(self) -> str:
        state = "ok" if self.ok else "FAILED"
        return f"{self.name:<8} {state:<6} {self.milliseconds:8.0f} ms  {self.detail}"


Finding = tuple[str, str, Facts]
"""Detail, fix and facts of a part that works. A part that does not raises `SandboxError`."""


def doctor(*, as_json: bool = False, require_wall: bool = False) -> int:
    """Prints each part's state; the exit code is 0 if all of them work.

    Args:
        as_json: Print one JSON object instead of lines of text.
        require_wall: Count a wall with a part missing as a failure.
    """
    if not as_json:
        print(f"dspy-rlm {own_version()}, Python {platform.python_version()} on {sys.platform}")
    checks: list[Check] = []
    for name, (work, fix) in _parts(require_wall).items():
        checks.append(_try(name, work, fix))
        if not as_json:
            print(checks[-1])
        if not checks[-1].ok:
            break  # the following parts need this one
    ok = all(check.ok for check in checks)
    if as_json:
        print(json.dumps(report(checks), indent=2))
    elif ok:
        print("all parts work")
    return 0 if ok else 1


def report(checks: Sequence[Check]) -> Facts:
    """Returns the whole report as one JSON object. Parts that were not reached are null."""
    facts = {check.name: check.facts for check in checks if check.ok}
    return {
        "schema": SCHEMA,
        "ok": all(check.ok for check in checks),
        "dspy_rlm": own_version(),
        "python": platform.python_version(),
        "platform": sys.platform,
        "machine": platform.machine(),
        "checks": [
            {
                "name": check.name,
                "ok": check.ok,
                "milliseconds": round(check.milliseconds, 1),
                "detail": check.detail,
                "fix": check.fix,
            }
            for check in checks
        ],
        "deno": facts.get("deno"),
        "wall": facts.get("wall"),
        "engine": facts.get("files"),
        "sandbox": facts.get("sandbox"),
        "default_limits": dataclasses.asdict(Limits()),
    }


def own_version() -> str:
    """Returns the version of the installed distribution."""
    try:
        return version("dspy-rlm")
    except PackageNotFoundError:
        return "(not installed)"


def _parts(require_wall: bool) -> Mapping[str, tuple[Callable[[], Finding], str]]:
    """Returns the check of each part, and the remedy if it fails."""
    return {
        "deno": (_check_deno, DENO_FIX),
        "wall": (lambda: _check_wall(require_wall), "See the detail."),
        "files": (
            _check_files,
            "Install them again with: python -m sandbox_runtime install --force",
        ),
        "sandbox": (_check_sandbox, "Report the detail together with the lines above it."),
    }


def _try(name: str, work: Callable[[], Finding], fix: str) -> Check:
    start = time.perf_counter()
    try:
        detail, advice, facts = work()
        ok = True
    except WallProbeError as error:
        ok, detail, advice, facts = (
            False,
            str(error),
            "Run it again on a machine with less load.",
            {},
        )
    except SandboxError as error:
        ok, detail, advice, facts = False, str(error), fix, {}
    return Check(name, ok, (time.perf_counter() - start) * 1000, detail, advice, facts)


def _check_deno() -> Finding:
    path = executable.find_deno()
    dotted = ".".join(map(str, executable.deno_version(path)))
    facts = {"version": dotted, "path": str(path), "advisories": len(DENO_ADVISORIES)}
    finding = check_deno()
    if not finding.sound:
        # A distribution's own package has another build: no fault, but worth a look.
        return f"{finding.words}, so it is another build", "", facts
    detail = f"Deno {dotted} at {path}, within none of {len(DENO_ADVISORIES)} known advisories"
    return detail, "", facts


def _check_wall(required: bool) -> Finding:
    wall, offered = executable.wall_for(executable.find_deno()), detect()
    if required:
        executable.demand_wall(wall)
    missing = executable.wall_shortcomings(wall)
    facts = {
        "complete": wall.complete,
        "landlock": wall.landlock,
        "seccomp": wall.seccomp,
        "gate": wall.gate,
        "kernel": platform.release(),
        "offered": dataclasses.asdict(offered),
        "missing": missing,
    }
    detail = f"{wall} of the operating system, around every sandbox"
    if missing:
        detail = f"{wall} of the operating system; {'; '.join(missing)}"
    return detail, "; ".join(missing), facts


def _check_files() -> Finding:
    engine = assets.find_engine()
    engine.verify()
    if unsound := [one for one in check_files(engine.folder) if not one.sound]:
        raise SandboxError(f"{engine.folder / unsound[0].part} {unsound[0].words}.")
    size = sum(size for _, size, _ in assets.read_manifest(engine.folder))
    detail = f"Pyodide and boot image, {size / 1e6:.0f} MB, hashes match, in {engine.folder}"
    return detail, "", {"folder": str(engine.folder), "bytes": size, "key": assets.engine_key()}


def _check_sandbox() -> Finding:
    with Session(assets.find_engine(), Limits()) as session:
        result = session.run_cell("import sys; sys.version.split()[0]")
    if not isinstance(result, Completed):
        raise SandboxError(f"A cell failed: {result}")
    python = result.output.strip().strip(chr(39))
    return f"started, ran a cell on Python {python}, closed", "", {"python": python}
