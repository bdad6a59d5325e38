"""`python -m sandbox_runtime COMMAND`: installs, checks and lists the parts of the sandbox."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sandbox_runtime.engine import deno as executable
from sandbox_runtime.errors import PackageError, SandboxError
from sandbox_runtime.installation.doctor import doctor
from sandbox_runtime.installation.install import install
from sandbox_runtime.installation.sbom import sbom_here
from sandbox_runtime.installation.verify import verify
from sandbox_runtime.open import resolve_packages


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; the exit code is 0 if all is well."""
    parser = argparse.ArgumentParser(prog="python -m sandbox_runtime", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("doctor", help="check every part, and start a sandbox")
    checking.add_argument("--json", action="store_true", help="one JSON object instead of text")
    checking.add_argument(
        "--require-wall", action="store_true", help="fail if a part of the system's wall is missing"
    )
    installing = commands.add_parser(
        "install", help="install the sandbox's files into the user's cache"
    )
    installing.add_argument("--force", action="store_true", help="replace an existing installation")
    packaging = commands.add_parser("packages", help="fetch packages that sessions can import")
    packaging.add_argument(
        "names", nargs="*", metavar="NAME", help="a pip requirement: pydantic>=2"
    )
    packaging.add_argument(
        "--locked", type=Path, metavar="FILE", help="a lock file with hashes, instead of names"
    )
    packaging.add_argument(
        "--write-lock",
        type=Path,
        metavar="FILE",
        help="write the resolved packages to a lock file with hashes",
    )
    packaging.add_argument("--refresh", action="store_true", help="ask the package index again")
    verifying = commands.add_parser(
        "verify", help="compare every part with the hashes in the source"
    )
    verifying.add_argument(
        "--rebuild", action="store_true", help="also rebuild the engine, and compare the two"
    )
    commands.add_parser("sbom", help="print the bill of materials, as CycloneDX 1.6")
    options = parser.parse_args(arguments)
    if options.command == "install":
        return _report("engine", lambda: f"installed in {install(force=options.force).folder}")
    if options.command == "packages":
        if bool(options.names) == bool(options.locked):
            packaging.error("pass names, or a file with --locked")
        return _report(
            "packages",
            lambda: _prepare_packages(
                options.locked or options.names, options.refresh, options.write_lock
            ),
        )
    if options.command == "verify":
        return _verify(rebuild=options.rebuild)
    if options.command == "sbom":
        return _print_sbom()
    return doctor(as_json=options.json, require_wall=options.require_wall)


def _verify(*, rebuild: bool) -> int:
    """Prints a line for each part; the exit code is 0 if all parts are genuine."""
    sound = True
    try:
        for finding in verify(rebuild=rebuild):
            sound = sound and finding.sound
            print(f"{'ok' if finding.sound else 'FAILED':<6}  {finding.part:<18} {finding.words}")
    except SandboxError as error:
        print(f"FAILED  {error}")
        return 1
    return 0 if sound else 1


def _print_sbom() -> int:
    try:
        print(sbom_here(executable.v8_version(executable.find_deno())), end="")
    except SandboxError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _prepare_packages(requirements: list[str] | Path, refresh: bool, lock: Path | None) -> str:
    packages = resolve_packages(requirements, refresh=refresh)
    if lock is not None:
        try:
            lock.write_text(packages.lock(), encoding="utf-8")
        except OSError as error:
            raise PackageError(f"{lock} cannot be written: {error.strerror}.") from error
    lines = [f"{packages.bundle_bytes / 1e6:.1f} MB to mount, in {packages.folder}"]
    lines += [f"  {item.name} {item.version}  {item.file}" for item in packages.packages]
    return "\n".join(lines)


def _report(name: str, work: Callable[[], str]) -> int:
    start = time.perf_counter()
    try:
        state, detail = "ok", work()
    except SandboxError as error:
        state, detail = "FAILED", str(error)
    milliseconds = (time.perf_counter() - start) * 1000
    print(f"{name:<8} {state:<6} {milliseconds:8.0f} ms  {detail}")
    return 0 if state == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())
