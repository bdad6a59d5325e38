"""Compares what is installed with where it should come from: constants of the source, and a build of one's own.

`doctor` asks whether the parts work. This asks whether they are the parts they are said to be.
"""

from __future__ import annotations

import dataclasses
import struct
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from sandbox_runtime.engine import assets
from sandbox_runtime.engine import deno as executable
from sandbox_runtime.engine.provenance import (
    PYODIDE_FILES,
    PYODIDE_VERSION,
    expected_deno,
    sha256_of,
)
from sandbox_runtime.installation import install

# V8's compiled form differs between builds in some bytes, and there in this one bit (16 of 1.2 million bytes
# were the most in ten builds).
UNREPEATABLE = assets.CACHE_FILE
UNREPEATABLE_BIT = 0x04
UNREPEATABLE_BYTES = 64

# There is a number for each function, it seems, and in some builds on a loaded machine all of them are larger
# by the same small amount; why is not known. Seen was 2, in 2,355 numbers that fill a range but for one.
LARGEST_SHIFT = 64
FEWEST_NUMBERS = 1000
NUMBERS_LEFT_OUT = 16
_NUMBER = struct.Struct("<I")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One part, whether it is what it should be, and how that is known."""

    part: str
    sound: bool
    words: str


def check_deno() -> Finding:
    """Compares the executable with the one in the package index's wheel of that version."""
    path = executable.find_deno()
    version = executable.deno_version(path)
    expected, found = expected_deno(version), sha256_of(path)
    name = f"Deno {'.'.join(map(str, version))} at {path}"
    if expected is None:
        return Finding("deno", True, f"{name} is not the tested one; its SHA-256 is {found}")
    if expected != found:
        return Finding("deno", False, f"{name} is not the package index's: its SHA-256 is {found}")
    return Finding("deno", True, f"{name} is the package index's: its SHA-256 is known here")


def check_files(folder: Path) -> Iterator[Finding]:
    """Compares Pyodide's own files with the source's constants, and all others with the manifest."""
    manifest = {name: digest for name, _, digest in assets.read_manifest(folder)}
    for name, expected in manifest.items():
        known = PYODIDE_FILES.get(name)
        sound = sha256_of(folder / name) == (known or expected)
        source = f"Pyodide {PYODIDE_VERSION}" if known else "the manifest beside it"
        yield Finding(name, sound, f"{'is' if sound else 'is NOT'} as in {source}")


def check_rebuilt(folder: Path) -> Iterator[Finding]:
    """Builds the engine once more, from the source and Pyodide's package, and compares each file.

    Raises:
        EngineError: It cannot be built here.
    """
    with tempfile.TemporaryDirectory(prefix="dspy-rlm-rebuild-") as workshop:
        built = Path(workshop)
        install.build(executable.find_deno(), built)
        for name in assets.INSTALLED_FILES:
            yield compare(name, (folder / name).read_bytes(), (built / name).read_bytes())


def compare(name: str, here: bytes, built: bytes) -> Finding:
    """Compares a file with the one that was built here, in what V8 leaves the same."""
    if here == built:
        return Finding(name, True, "is the same, byte for byte")
    if len(here) != len(built):
        return Finding(name, False, f"has {len(here):,} bytes, the one built here {len(built):,}")
    differing = [at for at, pair in enumerate(zip(here, built, strict=True)) if pair[0] != pair[1]]
    words = f"differs in {len(differing):,} of {len(here):,} bytes, the first at {differing[0]:,}"
    if name != UNREPEATABLE:
        return Finding(name, False, words)
    numbers, others = _renumbered(here, built, differing)
    only_bit = all(here[at] ^ built[at] == UNREPEATABLE_BIT for at in others)
    if not only_bit or len(others) > UNREPEATABLE_BYTES:
        return Finding(name, False, words)
    reasons = [f"by V8's numbers of {numbers:,} functions, all shifted alike"] if numbers else []
    if others:
        reasons.append("by the one bit in which V8's compiled form varies")
    return Finding(name, True, f"{words}, {' and '.join(reasons)}")


def _renumbered(here: bytes, built: bytes, differing: Sequence[int]) -> tuple[int, Sequence[int]]:
    """Counts the functions that V8 numbered otherwise, and finds the remaining differences.

    That something else was changed by as much shows: each number is there once, and together they are all
    numbers of a range but for a few.
    """
    shifts = Counter(_shift(here, built, at) for at in differing)
    [(shift, count)] = shifts.most_common(1)
    if not 0 < abs(shift) <= LARGEST_SHIFT or count < FEWEST_NUMBERS:
        return 0, differing
    numbers: list[int] = []
    others: list[int] = []
    end = 0
    for at in differing:
        if at < end:
            continue
        if _shift(here, built, at) == shift:
            numbers.append(_NUMBER.unpack_from(here, at)[0])
            end = at + _NUMBER.size
        else:
            others.append(at)
    span = max(numbers) - min(numbers) + 1
    if len(set(numbers)) < len(numbers) or span > len(numbers) + NUMBERS_LEFT_OUT:
        return 0, differing
    return len(numbers), others


def _shift(here: bytes, built: bytes, at: int) -> int:
    """Returns how much larger the number is in the built one; 0 if there is none at the end."""
    if at + _NUMBER.size > len(here):
        return 0
    return int(_NUMBER.unpack_from(built, at)[0]) - int(_NUMBER.unpack_from(here, at)[0])


def verify(*, rebuild: bool) -> Iterator[Finding]:
    """All checks of this installation. Raises an `EngineError` if a part is not there at all."""
    yield check_deno()
    folder = assets.find_engine().folder
    yield from check_files(folder)
    if rebuild:
        yield from check_rebuilt(folder)
