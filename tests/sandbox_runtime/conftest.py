"""Sessions for the tests: real Deno, real Pyodide, closed whatever happens."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from package_index import CLOSED, PackageIndex, make_wheel

from sandbox_runtime import Session, open_session
from sandbox_runtime.engine import assets
from sandbox_runtime.open import ready_engine
from sandbox_runtime.packages.pyodide_index import DISTRIBUTION_VARIABLE


@pytest.fixture
def opened() -> Iterator[Callable[..., Session]]:
    """Opens sessions as `open_session` does, and closes them after the test."""
    sessions: list[Session] = []

    def start(**settings) -> Session:
        sessions.append(open_session(**settings))
        return sessions[-1]

    yield start
    for session in sessions:
        session.close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A user's cache of its own, with the engine in it."""
    root = tmp_path / "cache"
    engine = ready_engine().folder
    monkeypatch.setenv("XDG_CACHE_HOME", str(root))
    monkeypatch.setattr(assets, "PACKAGED_FOLDER", tmp_path / "none")
    own = assets.cache_folder()
    own.mkdir(parents=True)
    for file in engine.iterdir():
        try:
            (own / file.name).hardlink_to(file)
        except OSError:  # another disk
            shutil.copyfile(file, own / file.name)
    return root / "dspy-rlm"


@pytest.fixture
def index(tmp_path, monkeypatch, cache):
    """A package index that pip knows instead of all others."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip"))
    monkeypatch.setenv(DISTRIBUTION_VARIABLE, CLOSED)
    index = PackageIndex(folder)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    yield index
    index.close()


@pytest.fixture
def wheel(tmp_path):
    """Makes a wheel: modules by path, and what it requires."""

    def make(name: str, *details: str, **settings) -> Path:
        return make_wheel(tmp_path, name, *details, **settings)

    return make


@pytest.fixture
def thing(index, wheel):
    """A package in the index: its name."""
    index.add(wheel("thing"))
    return "thing"
