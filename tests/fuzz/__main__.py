"""`python -m tests.fuzz TARGET [options of libFuzzer]`: see the package."""

from __future__ import annotations

import sys
import tempfile

import atheris

with atheris.instrument_imports(include=["sandbox_runtime"]):
    from .targets import CORPUS, TARGETS


def main() -> None:
    """Fuzzes until something is found, or an option ends it. New inputs stay in a temporary folder."""
    target, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory() as found:
        atheris.Setup([sys.argv[0], *options, found, str(CORPUS / target)], TARGETS[target])
        atheris.Fuzz()


main()
