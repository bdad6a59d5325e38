"""Runs pip for the sandbox, on the host: resolves requirements, and downloads the files.

pip runs in a separate process and process session, with a time limit, and is killed with everything it has
started. Its environment has only what it needs to reach an index.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from packaging.utils import NormalizedName, canonicalize_name

from sandbox_runtime.errors import PackageError
from sandbox_runtime.packages import pip_guard
from sandbox_runtime.packages import pip_shim as pip_for_sandbox
from sandbox_runtime.packages.pip_errors import last_words, without_secrets
from sandbox_runtime.packages.pip_report import MAX_REPORT_BYTES, SearchResult, read_report

PYTHON_VERSION = pip_for_sandbox.MARKERS["python_full_version"]
TAGS = (
    *("--platform", pip_for_sandbox.PLATFORM),
    *("--implementation", "cp", "--abi", "cp314", "--abi", "abi3"),
)

# Timeout of a resolution or a download.
PIP_SECONDS = 600
# Only this much of the end of pip's log is read; the errors are there.
LOG_BYTES = 8 * 1024 * 1024

# Everything in a line that pip's reader of requirements files changes; see `pip._internal.req.req_file`.
_REWRITTEN = re.compile(r"\$\{|\s#|\\$")

_NO_PIP = (
    f"{sys.executable or 'This Python'} has no pip, which resolves packages for the sandbox. "
    'Install it with: python -m ensurepip (or "uv pip install pip")'
)

# Overrides the user's settings that make no sense here; those for reaching the index stay.
_PIP_ENVIRONMENT = {
    "PIP_USER": "0",
    "PIP_NO_DEPS": "0",
    "PIP_QUIET": "0",
    "PIP_REQUIRE_HASHES": "0",
    "PIP_REQUIRE_VIRTUALENV": "0",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_NO_COLOR": "1",
    "PIP_RETRIES": "2",
    "PYTHONIOENCODING": "utf-8",
    # Another Python (`PIP_PYTHON`) would run a pip that is not restricted to wheels.
    "_PIP_RUNNING_IN_SUBPROCESS": "1",
}

# Settings of the user that would add wheels for another Python to those for the sandbox.
_NOT_PASSED = frozenset({"PIP_PLATFORM", "PIP_ABI", "PIP_IMPLEMENTATION", "PIP_PYTHON_VERSION"})

# The allow-list of environment variables for pip: its own settings, how to reach an index, where its folders
# are, and what Python itself needs to start. Keys, tokens and passwords for other things are not passed.
PASSED_PREFIXES = ("PIP_", "LC_", "XDG_")
PASSED_NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "VIRTUAL_ENV", "NETRC"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("PYTHONHOME", "PYTHONPATH", "PYTHONUTF8", "PYTHONNOUSERSITE", "PYTHONUSERBASE"),
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"),
        *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE", "USERNAME"),
        *("APPDATA", "LOCALAPPDATA", "PROGRAMDATA", "ALLUSERSPROFILE", "HOMEDRIVE", "HOMEPATH"),
        # For the program of pip's `keyring-provider`, which queries the desktop.
        "DBUS_SESSION_BUS_ADDRESS",
    }
)
# Lists further variables, separated by commas: those that a credential helper needs.
PASSED_VARIABLE = "SANDBOX_PIP_ENVIRONMENT"


def report(
    requirements: Sequence[str], workshop: Path, sources: Sequence[str], *, locked: bool = False
) -> list[SearchResult] | str:
    """Returns pip's report on what to install, or its log if it failed.

    Args:
        requirements: The requirements, as the lines of a file.
        workshop: A folder for what pip writes.
        sources: Options that name further sources.
        locked: True if the requirements have hashes; then nothing else is installed.
    """
    path = workshop / "report.json"
    options = ["--dry-run", "--ignore-installed", "--target", str(workshop / "nowhere")]
    if locked:
        options += ["--require-hashes", "--no-deps"]
    # In a file and not on the command line, which others on this machine can read.
    lines = workshop / "requirements.txt"
    lines.write_text(_requirements_text(requirements), encoding="utf-8")
    arguments = [*options, "--report", str(path), *sources, "-r", str(lines)]
    log_text = _pip("install", arguments, workshop)
    if log_text is not None:
        return log_text
    with path.open("rb") as file:
        return read_report(file.read(MAX_REPORT_BYTES + 1))


def download(
    results: Sequence[SearchResult],
    accepted: Mapping[NormalizedName, Sequence[str]],
    folder: Path,
    workshop: Path,
    sources: Sequence[str],
    place: str,
) -> None:
    """Downloads the files of pip's report. pip checks that each has one of the accepted hashes of its package."""
    pins = workshop / "pins.txt"
    lines = [
        " ".join(
            [
                f"{one.name} @ {one.url}" if one.direct else f"{one.name}=={one.version}",
                *(f"--hash={each}" for each in accepted[canonicalize_name(one.name)]),
            ]
        )
        for one in results
    ]
    pins.write_text(_requirements_text(lines), encoding="utf-8")
    options = ["--no-deps", "--require-hashes", "--dest", str(folder)]
    log_text = _pip("download", [*options, *sources, "-r", str(pins)], workshop)
    if log_text is not None:
        where = f" (some are from {without_secrets(place)})" if sources else ""
        raise PackageError(f"Packages could not be fetched{where}: {last_words(log_text)}")


def _requirements_text(lines: Sequence[str]) -> str:
    """Returns a requirements file. Raises `PackageError` for a line that pip would read as something else.

    pip replaces `${NAME}` by a variable of the environment, which would send it to the address that has it.
    It splits lines at every separator of Unicode, joins them at a backslash, and strips comments.
    """
    for line in lines:
        if len(line.splitlines()) != 1 or _REWRITTEN.search(line):
            raise PackageError(
                f"{without_secrets(repr(line))[:300]} cannot be passed to pip: a requirement is one line, "
                "without comments, variables such as ${NAME}, and a backslash at its end."
            )
    return "\n".join(lines) + "\n"


def environment_for_pip(own: Mapping[str, str], fetched: Path) -> dict[str, str]:
    """Returns the environment of pip's process.

    Args:
        own: The environment of this process.
        fetched: The folder for pip's temporary downloads.
    """
    more = {name.strip() for name in own.get(PASSED_VARIABLE, "").split(",")}
    passed = {
        name: value
        for name, value in own.items()
        if name.upper() not in _NOT_PASSED
        and (
            name.upper() in PASSED_NAMES or name.upper().startswith(PASSED_PREFIXES) or name in more
        )
    }
    place = str(fetched)
    temporary = {"TMPDIR": place, "TEMP": place, "TMP": place, pip_guard.FETCHED_VARIABLE: place}
    return {**passed, **_PIP_ENVIRONMENT, **temporary}


def _pip(command: str, arguments: Sequence[str], workshop: Path) -> str | None:
    """Runs pip for the sandbox; returns its log if it failed, else None."""
    if not sys.executable:
        raise PackageError(_NO_PIP)
    fetched, log = workshop / "fetched", workshop / "pip.log"
    fetched.mkdir(exist_ok=True)
    program = ["-P", pip_for_sandbox.__file__]
    for_sandbox = ["--only-binary=:all:", "--python-version", PYTHON_VERSION, *TAGS]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *program, command, "-vv", *for_sandbox, *arguments],
            env=environment_for_pip(os.environ, fetched),
            stdin=subprocess.PIPE,  # pip ends when this closes, and so when this process ends
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(PIP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise PackageError(f"pip did not finish within {PIP_SECONDS} s.") from error
        finally:
            _end(process)
    if code == 0:
        return None
    log_text = _tail(log)
    if code == pip_for_sandbox.NO_PIP:
        raise PackageError(_NO_PIP)
    if code == pip_for_sandbox.UNKNOWN_PIP:
        raise PackageError(
            f"The pip of {sys.executable} cannot be restricted to wheels, so it is not used: "
            f"{last_words(log_text)} Install another: pip install --upgrade pip"
        )
    if code < 0:
        return f"ERROR: {_signal_words(-code)}"
    if "\nMemoryError" in log_text:
        return f"ERROR: pip needed more than {pip_guard.MEMORY_BYTES:,} bytes of memory."
    return log_text


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kills pip with everything it has started, unless it has ended by itself."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _signal_words(number: int) -> str:
    if number == getattr(signal, "SIGXCPU", None):
        return f"pip took more than {pip_guard.CPU_SECONDS} s of CPU time and was killed."
    return f"pip was killed by signal {number}."


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_BYTES))
        return file.read().decode("utf-8", errors="replace").replace("\r\n", "\n")
