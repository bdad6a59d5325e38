"""Compares the installed parts with their origin: constants of the source, and a local rebuild.

`doctor` checks that the parts work; this checks that they are genuine.
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

# V8's code cache differs between builds in some bytes, and there in this one bit (at most 16 of 1.2 million
# bytes in ten builds).
UNREPEATABLE = assets.CACHE_FILE
UNREPEATABLE_BIT = 0x04
UNREPEATABLE_BYTES = 64

# The cache seems to hold a number for each function, and in some builds on a loaded machine all of them are
# larger by the same small amount, for an unknown reason. Observed: 2, in 2,355 numbers that fill a range but one.
LARGEST_SHIFT = 64
FEWEST_NUMBERS = 1000
NUMBERS_LEFT_OUT = 16
_NUMBER = struct.Struct("<I")


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
            yield compare(name, (folder / name).read_bytes(), (built / name).read_bytes())


def compare(name: str, here: bytes, built: bytes) -> Finding:
    """Compares a file with the rebuilt one, except for the bytes that V8 varies."""
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
        reasons.append("by the one bit in which V8's code cache varies")
    return Finding(name, True, f"{words}, {' and '.join(reasons)}")


def _renumbered(here: bytes, built: bytes, differing: Sequence[int]) -> tuple[int, Sequence[int]]:
    """Counts the functions that V8 numbered differently, and finds the remaining differences.

    A forged change by the same amount is detected: each number occurs once, and together they fill a range
    except for a few.
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
    """Returns how much larger the number at `at` is in the rebuilt file; 0 if too few bytes are left."""
    if at + _NUMBER.size > len(here):
        return 0
    return int(_NUMBER.unpack_from(built, at)[0]) - int(_NUMBER.unpack_from(here, at)[0])


def verify(*, rebuild: bool) -> Iterator[Finding]:
    """Runs all checks of this installation. Raises an `EngineError` if a part is missing."""
    yield check_deno()
    folder = assets.find_engine().folder
    yield from check_files(folder)
    if rebuild:
        yield from check_rebuilt(folder)
