"""Restricts pip to wheels: it executes, builds and fetches nothing else. Loaded into pip's own process.

Two independent layers:

- Patches of pip's classes: no requirement of a package may name a URL, and only wheels are fetched.
- An audit hook of the interpreter: whatever pip does, no process starts, and no code runs except that of the
  folders that were on Python's path when pip started.

It also bounds pip's resources, since pip's input (pages, wheels, metadata) is untrusted. Imports only the
standard library: nothing else of this package is in pip's process.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

# Resource limits of pip. Resolving and fetching takes some seconds of CPU and 100 MB; these leave a wide margin.
CPU_SECONDS = 300
MEMORY_BYTES = 1024**3
FILE_BYTES = 1024**3
# Total of the bytes that one pip process fetches, after content decoding.
FETCH_BYTES = 2 * 1024**3

# The folder of pip's temporary downloads; nothing in it is ever executed.
FETCHED_VARIABLE = "SANDBOX_PIP_FETCHED"

_PROCESS_EVENTS = frozenset(
    {
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.spawn",
        "os.startfile",
        "os.startfile/2",
        "os.system",
        "pty.spawn",
        "subprocess.Popen",
    }
)

_SCHEMES = frozenset({"http", "https", "file"})
# File systems allow no longer names; and a wheel's name expands to the product of its tags.
_MAX_FILE_NAME = 255
_FILE_NAME = re.compile(r"[A-Za-z0-9._+!-]+")

# Every patch below applies to a method of one of these; a pip without them is not used.
_CHANGED = {
    "InstallRequirement": "pip._internal.req.req_install",
    "RequirementPreparer": "pip._internal.operations.prepare",
    "SourceDistribution": "pip._internal.distributions.sdist",
    "VersionControl": "pip._internal.vcs.versioncontrol",
    "RequirementCommand": "pip._internal.cli.req_command",
    "PipSession": "pip._internal.network.session",
    "HTTPResponse": "pip._vendor.urllib3.response",
}


class UnknownPipError(Exception):
    """This pip lacks a part that must be patched, so it is not used."""


# ---- Bounds ----------------------------------------------------------------------------------------


def bound_resources() -> None:
    """Sets the resource limits of this process, where the system has them; beyond them pip fails."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, most in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_DATA, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, hard))


def end_with_host() -> None:
    """Ends this process at the end of its standard input, if that is a pipe: then the host has ended."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        while os.read(lifeline, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


# ---- The audit hook --------------------------------------------------------------------------------


def refuse_foreign_code() -> None:
    """From now on refuses new processes, and code from outside of the current Python path.

    A refusal is a `PermissionError`, as from the operating system. The only exception: the programs that pip's
    own `keyring-provider` setting queries for credentials.
    """
    own = tuple(_resolved(path) for path in [*sys.path, os.__file__, __file__] if path)
    fetched = os.environ.get(FETCHED_VARIABLE)
    foreign = (_resolved(fetched),) if fetched else ()

    @functools.cache
    def is_own(file: str) -> bool:
        if file.startswith("<"):  # compiled from text by a trusted module, such as a named tuple
            return True
        place = _resolved(file)
        return _is_below(place, own) and not _is_below(place, foreign)

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _PROCESS_EVENTS:
            if not _asks_keyring(sys._getframe(1)):
                raise PermissionError(f"pip may not start a process here ({event} {arguments[:1]})")
        elif event == "exec":
            code = arguments[0]
            if isinstance(code, CodeType) and not is_own(code.co_filename):
                raise PermissionError(f"pip may not run code from {code.co_filename}")
        elif event == "import":
            file = arguments[1]  # of a compiled module
            if isinstance(file, str) and not is_own(file):
                raise PermissionError(f"pip may not load {file}")
        elif event == "ctypes.dlopen":
            name = arguments[0]
            if isinstance(name, str) and _is_below(_resolved(name), foreign):
                raise PermissionError(f"pip may not load {name}")
        elif event == "pickle.find_class":
            raise PermissionError("pip may not unpickle anything")

    # Everything that the check uses is imported by now: a hook that imports would call itself.
    sys.addaudithook(check)


def _resolved(path: str) -> str:
    return os.path.realpath(path)


def _is_below(place: str, folders: tuple[str, ...]) -> bool:
    return any(place == folder or place.startswith(folder + os.sep) for folder in folders)


def _asks_keyring(frame: FrameType | None) -> bool:
    """Returns whether pip's own keyring query is among the callers."""
    codes = _keyring_codes()
    while frame is not None:
        if frame.f_code in codes:
            return True
        frame = frame.f_back
    return False


def _keyring_codes() -> frozenset[CodeType]:
    """Returns the code of the methods by which pip queries a keyring; empty before that module is imported."""
    auth = sys.modules.get("pip._internal.network.auth")
    providers = (
        getattr(auth, name, None) for name in ("KeyRingPythonProvider", "KeyRingCliProvider")
    )
    return frozenset(
        method.__code__
        for provider in providers
        if provider is not None
        for method in vars(provider).values()
        if hasattr(method, "__code__")
    )


# ---- Patches of pip --------------------------------------------------------------------------------


def hold_to_wheels(files: list[str]) -> None:
    """Patches pip's classes to accept only wheels, and only from the sources that the user names.

    Args:
        files: The requirements files that pip may read.

    Raises:
        UnknownPipError: This pip lacks a patched part, so it must not be used.
    """
    try:
        parts = {
            name: getattr(importlib.import_module(module), name)
            for name, module in _CHANGED.items()
        }
        refusal = importlib.import_module("pip._internal.exceptions").InstallationError
        parse_name = importlib.import_module("pip._vendor.packaging.utils").parse_wheel_filename
        _change(parts, files, refusal, parse_name)
        _try_out(parts["InstallRequirement"], parts["RequirementPreparer"], refusal)
    except (ImportError, AttributeError, TypeError, KeyError, NameError) as error:
        raise UnknownPipError(str(error)) from error


def _change(
    parts: dict[str, Any],
    files: list[str],
    refusal: type[Exception],
    parse_name: Callable[[str], object],
) -> None:
    requirement, preparer = parts["InstallRequirement"], parts["RequirementPreparer"]
    named: set[str] = set()  # the URLs that the user named

    def check_requirement(self: Any, *_: Any, **__: Any) -> None:
        if self.link is None:
            return
        if not isinstance(self.comes_from, requirement):
            named.add(self.link.url)
        elif self.link.url not in named:
            raise refusal(
                f"{self.comes_from.name} requires {self.name} from an address of its own, "
                f"{self.link.redacted_url if hasattr(self.link, 'redacted_url') else self.link}. "
                "Packages cannot choose where others are fetched from: if you trust this one, name it "
                "yourself, with this address."
            )

    def check_link(_: Any, candidate: Any, *__: Any, **___: Any) -> None:
        link = candidate.link
        if candidate.editable or link is None or not link.is_wheel or link.scheme not in _SCHEMES:
            raise refusal(
                f"{candidate.name} is not a wheel ({link}); building it could execute its code on this machine."
            )
        try:
            if len(link.filename) > _MAX_FILE_NAME or not _FILE_NAME.fullmatch(link.filename):
                raise ValueError("it is too long, or has other characters than the names of wheels")
            parse_name(link.filename)
        except Exception as error:
            raise refusal(f"{link.filename!r} is not the name of a wheel: {error}") from error
        if link.is_file:
            if str(getattr(link, "comes_from", None) or "").startswith(("http:", "https:")):
                raise refusal(f"A page of the package index names a file of this machine: {link}")
            if not Path(link.file_path).is_file():
                raise refusal(f"{link.file_path} is not a file.")

    def refuse(self: Any, *_: Any, **__: Any) -> None:
        raise refusal(
            "Only wheels are accepted: nothing is built, checked out or prepared on this machine."
        )

    find_target = parts["PipSession"].get_redirect_target  # of the library's own class

    def check_redirect(self: Any, response: Any) -> Any:
        target = response.headers.get("location") or ""
        # A relative redirect has no scheme; any other scheme does not lead to a web server.
        if ":" in target.partition("/")[0] and not target.lower().startswith(("http:", "https:")):
            raise refusal(
                f"{response.url} redirects to {target[:200]!r}, which is not an HTTP URL."
            )
        return find_target(self, response)

    def keep_to_files(self: Any, _: Any, options: Any, *__: Any, **___: Any) -> None:
        options.requirements = list(files)
        for setting in ("editables", "dependency_groups", "requirements_from_scripts"):
            if hasattr(options, setting):
                setattr(options, setting, [])

    _after(requirement, "__init__", check_requirement)
    _before(preparer, "prepare_linked_requirement", check_link)
    prepare_all = preparer.prepare_linked_requirements_more

    @functools.wraps(prepare_all)
    def prepare_wheels(self: Any, requirements: Any, *arguments: Any, **named: Any) -> Any:
        requirements = list(requirements)
        for one in requirements:
            check_link(self, one)
        return prepare_all(self, requirements, *arguments, **named)

    preparer.prepare_linked_requirements_more = prepare_wheels
    _before(preparer, "prepare_editable_requirement", refuse)
    _before(parts["SourceDistribution"], "prepare_distribution_metadata", refuse)
    _before(parts["VersionControl"], "unpack", refuse)
    _before(parts["VersionControl"], "run_command", refuse, of_class=True)
    _before(parts["RequirementCommand"], "get_requirements", keep_to_files)
    parts["PipSession"].get_redirect_target = check_redirect
    _count_bytes(parts["HTTPResponse"], refusal)


def _before(kind: Any, name: str, check: Callable[..., None], *, of_class: bool = False) -> None:
    """Patches a method of the class itself: a check with the same arguments runs before it."""
    method = vars(kind)[name]
    if of_class:
        method = method.__func__

    @functools.wraps(method)
    def checked(self: Any, *arguments: Any, **named: Any) -> Any:
        check(self, *arguments, **named)
        return method(self, *arguments, **named)

    setattr(kind, name, classmethod(checked) if of_class else checked)


def _after(kind: Any, name: str, check: Callable[..., None]) -> None:
    """Patches a method of the class itself: a check with the same arguments runs after it."""
    method = vars(kind)[name]

    @functools.wraps(method)
    def checked(self: Any, *arguments: Any, **named: Any) -> Any:
        result = method(self, *arguments, **named)
        check(self, *arguments, **named)
        return result

    setattr(kind, name, checked)


def _count_bytes(response: Any, refusal: type[Exception]) -> None:
    """Aborts fetching beyond `FETCH_BYTES`, counted over all responses."""
    stream = response.stream
    total = 0

    @functools.wraps(stream)
    def counted(self: Any, *arguments: Any, **named: Any) -> Iterator[bytes]:
        nonlocal total
        for chunk in stream(self, *arguments, **named):
            total += len(chunk)
            if total > FETCH_BYTES:
                raise refusal(f"More than {FETCH_BYTES:,} bytes would have to be fetched.")
            yield chunk

    response.stream = counted


def _try_out(requirement: Any, preparer: Any, refusal: type[Exception]) -> None:
    """Verifies that the patches work: a pip with other code paths could bypass them."""
    constructors = importlib.import_module("pip._internal.req.constructors")
    user = constructors.install_req_from_line("probe-of-user")
    address = "https://probe.invalid/probe-1.0.tar.gz"
    by_package = _refuses(
        refusal, lambda: constructors.install_req_from_req_string(f"probe @ {address}", user)
    )
    source = constructors.install_req_from_line(f"probe @ {address}")
    by_link = _refuses(
        refusal,
        lambda: preparer.prepare_linked_requirement(object.__new__(preparer), source, False),
    )
    if not (by_package and by_link and isinstance(user, requirement)):
        raise UnknownPipError("pip handles requirements by unknown code paths")


def _refuses(refusal: type[Exception], action: Callable[[], object]) -> bool:
    try:
        action()
    except refusal:
        return True
    return False
