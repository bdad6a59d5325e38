"""Fixtures of the tests of the command line: a folder of files, and commands in this process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import dspy
import pytest
from command_line import LOG, Run, Server, environment
from thrifty_pool import ThriftyPool

from dspy_rlm.cli.main import main
from dspy_rlm.drop_in import uninstall
from sandbox_runtime import default_pool, set_default_pool

# The modules that tests write.
PROGRAMS = frozenset({"program", "broken", "leaving", "whole"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a log, a folder of logs, and a binary."""
    (tmp_path / "log.txt").write_text(LOG)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.txt").write_text("fine\n")
    (tmp_path / "logs" / "b.txt").write_text(LOG)
    (tmp_path / "logs" / "core").write_bytes(b"\0\1")
    return tmp_path


@pytest.fixture(scope="session")
def lent_again() -> Iterator[ThriftyPool]:
    """A pool whose sandboxes the next command uses again."""
    pool = ThriftyPool()
    yield pool
    pool.close()


@pytest.fixture(autouse=True)
def _as_a_new_process(monkeypatch: pytest.MonkeyPatch, lent_again: ThriftyPool) -> Iterator[None]:
    """Without the settings of the person who runs the tests; and what a program changes is undone."""
    before = default_pool()
    set_default_pool(lent_again)
    monkeypatch.setenv("DSPY_RLM_CONFIG", os.devnull)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    modules = {*sys.modules}
    yield
    set_default_pool(before)
    uninstall()
    for name in {*sys.modules} - modules:
        if name.partition(".")[0] in PROGRAMS:
            del sys.modules[name]


@pytest.fixture
def run_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs commands in the folder, in this process, without a model, a key or replies of other tests."""
    for name in os.environ.keys() - environment(folder).keys():
        monkeypatch.delenv(name)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(dspy, "cache", dspy.cache)
    dspy.configure_cache(enable_disk_cache=False)

    def run_here(
        *arguments: str, variables: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            for name, value in (variables or {}).items():
                patch.setenv(name, value)
            before = dspy.settings.lm
            try:
                code = main(arguments)
            finally:
                dspy.configure(lm=before)  # a program may have configured its own
        output = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, output.out, output.err)

    return run_here


@pytest.fixture
def server(folder: Path, run_here: Run) -> Iterator[Server]:
    """A server whose root LM finds lines."""
    server = Server(folder, run_here)
    with server.policies:
        yield server
