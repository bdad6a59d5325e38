"""Compares the installed parts with their origin: constants of the source, and a local rebuild.

`doctor` checks that the parts work; this checks that they are genuine.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import wait
from pathlib import Path

from sandbox_runtime.engine import assets
from sandbox_runtime.engine import deno as executable
from sandbox_runtime.engine.assets import Engine
from sandbox_runtime.engine.provenance import (
    PYODIDE_FILES,
    PYODIDE_VERSION,
    expected_deno,
    sha256_of,
)
from sandbox_runtime.installation import install
from sandbox_runtime.threads import DaemonPool

# V8's compiled form has two common variants, and some rare ones (2 in 3, 1 in 4, and 1 in 30 each, of 46 builds
# on a loaded machine of two cores). After so many builds each common one has been seen.
FORMS = 60
# At once, since V8's threads have to compete for some variants.
FORMS_AT_ONCE = 3


@dataclasses.dataclass(frozen=True)
class Finding:
    """The verdict on one part: whether it is genuine, and the evidence."""

    part: str
    sound: bool
    words: str


def check_deno() -> Finding:
    """Compares the executable with the one in the wheel of that version on the package index."""
    path = executable.find_deno()
    version = executable.deno_version(path)
    expected, actual = expected_deno(version), sha256_of(path)
    name = f"Deno {'.'.join(map(str, version))} at {path}"
    if expected is None:
        return Finding("deno", True, f"{name} is not the tested one; its SHA-256 is {actual}")
    if expected != actual:
        return Finding("deno", False, f"{name} is not the package index's: its SHA-256 is {actual}")
    return Finding("deno", True, f"{name} is the package index's: its SHA-256 is known here")


def check_files(folder: Path) -> Iterator[Finding]:
    """Compares Pyodide's own files with the source's constants, and all others with the manifest."""
    manifest = {name: digest for name, _, digest in assets.read_manifest(folder)}
    for name, expected in manifest.items():
        constant = PYODIDE_FILES.get(name)
        sound = sha256_of(folder / name) == (constant or expected)
        source = f"Pyodide {PYODIDE_VERSION}" if constant else "the manifest beside it"
        yield Finding(name, sound, f"{'is' if sound else 'is NOT'} as in {source}")


def check_rebuilt(folder: Path) -> Iterator[Finding]:
    """Rebuilds the engine from the source and Pyodide's package, and compares each file.

    Raises:
        EngineError: It cannot be built here.
    """
    with tempfile.TemporaryDirectory(prefix="dspy-rlm-rebuild-") as workshop:
        built = Path(workshop)
        install.build(executable.find_deno(), built)
        for name in assets.INSTALLED_FILES:
            here, again = (folder / name).read_bytes(), (built / name).read_bytes()
            if name == assets.CACHE_FILE and here != again:
                yield compare_forms(name, here, _forms(Engine(executable.find_deno(), built)))
            else:
                yield compare(name, here, again)


def compare(name: str, here: bytes, built: bytes) -> Finding:
    """Compares a file with the one that was built here."""
    if here == built:
        return Finding(name, True, "is the same, byte for byte")
    if len(here) != len(built):
        return Finding(name, False, f"has {len(here):,} bytes, the one built here {len(built):,}")
    differing = [at for at, pair in enumerate(zip(here, built, strict=True)) if pair[0] != pair[1]]
    words = f"differs in {len(differing):,} of {len(here):,} bytes, the first at {differing[0]:,}"
    return Finding(name, False, words)


def compare_forms(name: str, here: bytes, forms: Iterable[bytes]) -> Finding:
    """Compares V8's compiled form with variants that are built here, until one is the same."""
    count = 0
    for count, form in enumerate(forms, 1):
        if form == here:
            return Finding(name, True, f"is the same, byte for byte, as variant {count} built here")
    return Finding(name, False, f"is none of {count} variants that V8 has made of it here")


def _forms(engine: Engine) -> Iterator[bytes]:
    """Builds V8's compiled form again and again."""
    install.forget_compiled(engine)
    threads = DaemonPool(FORMS_AT_ONCE, "verify")
    build = functools.partial(install.compiled_form, engine)
    waiting = [threads.submit(build) for _ in range(FORMS)]
    try:
        for form in waiting:
            yield form.result()
    finally:
        threads.close(cancel_queued=True)
        wait(waiting)  # they use the folder


def verify(*, rebuild: bool) -> Iterator[Finding]:
    """Runs all checks of this installation. Raises an `EngineError` if a part is missing."""
    yield check_deno()
    folder = assets.find_engine().folder
    yield from check_files(folder)
    if rebuild:
        yield from check_rebuilt(folder)
