"""DSPy's tests as its repository has them: fetched when the tests run, none of it kept here.

The files are held to digests, so what is run is what was read when `differences.py` was written. They
are of 3.3.1: the tests of a later release have not been read yet.
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

TAG = "3.3.1"
ADDRESS = f"https://raw.githubusercontent.com/stanfordnlp/dspy/{TAG}"

# A checkout of DSPy at that tag, for those who cannot reach the address.
CHECKOUT = os.environ.get("DSPY_CHECKOUT", "")

# Seconds for one file, the largest of which has 70 kB.
PATIENCE = 10

DIGESTS = {
    "tests/conftest.py": "400a1ea7a845bd878dc65fbfbfcbce550737f3349bd36aacff074149ed5b8268",
    "tests/mock_interpreter.py": "ed3ab04e3ac2de7f82f9b419f925e95c9d6f037ea8b9c66c1dc5717829fb1d3b",
    "tests/callback/test_interpreter_callback.py": "52e17177f717f19a18173515d2cee0ff21ac07a1a83cf3bdb9a266478f95a399",
    "tests/predict/test_code_act.py": "0978bb057300652098e3f34e19ec594030912afd56315ec68bebb6ecca6c81f8",
    "tests/predict/test_program_of_thought.py": "b876a4ee21ac6d3a2791248678cd97db13934736ae09de7d50202e597c3780fe",
    "tests/predict/test_rlm.py": "2ecd401d8c8359cd966f2cc2199d770bd97bf0fc435b3e8af4fbc006c3774c05",
    "tests/primitives/test_code_interpreter.py": "af1a2c407d34c7d29b7554117f5897cee32802c25a29fe4152cdf22f5d27d2a3",
    "tests/primitives/test_python_interpreter.py": "79e9422510e4f6f38733d969e2e904110af7960c7f74280ea70c577baaee377d",
    "tests/primitives/test_sandbox_serializable.py": "5b32bae2492a17ee5971d63ad96ab147051fe7beb4b8dbb066689784609ad712",
}


class UnreachableError(Exception):
    """The files cannot be had here; says why."""


def fetch_tests(folder: Path) -> None:
    """Puts the files into a folder, and checks them.

    Raises:
        UnreachableError: The repository cannot be reached.
        ValueError: A file is not the one that was read.
    """
    for path, digest in DIGESTS.items():
        content = _content(path)
        if hashlib.sha256(content).hexdigest() != digest:
            raise ValueError(f"{path} is not that of DSPy {TAG}.")
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    for parent in {(folder / path).parent for path in DIGESTS}:
        (parent / "__init__.py").touch()


def _content(path: str) -> bytes:
    if CHECKOUT:
        return (Path(CHECKOUT) / path).read_bytes()
    try:
        with urllib.request.urlopen(f"{ADDRESS}/{path}", timeout=PATIENCE) as answer:
            content: bytes = answer.read()
            return content
    except (urllib.error.URLError, OSError) as error:
        raise UnreachableError(f"{ADDRESS} cannot be reached: {error}") from error
