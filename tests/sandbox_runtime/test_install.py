"""Installing the engine: atomically, by several processes at once, with errors that name the remedy.

Installers are processes of their own here, with caches of their own. Those that succeed fetch Pyodide
as a user's would.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cells import PROJECT

from sandbox_runtime import Completed, Limits
from sandbox_runtime.engine import assets
from sandbox_runtime.open import ready_engine
from sandbox_runtime.sessions.session import Session

# The answer of a fake Deno to `--version`.
VERSION = 'case "$1" in eval|--version) echo "deno 2.9.8 (stable)"; exit 0;; esac'


@pytest.fixture
def cache(tmp_path):
    """A separate user cache."""
    return tmp_path / "cache"


def engine_folder(cache):
    return cache / "dspy-rlm" / assets.cache_folder().name


def left_in(cache):
    """Returns the names of the files in the engine's part of a cache."""
    return sorted(path.name for path in (cache / "dspy-rlm").glob("*"))


def start(cache, *options, deno=None, **environment):
    """Starts an installer; `deno` is a folder with a package and a program that stand in for Deno."""
    path = os.environ["PATH"] if deno is None else f"{deno}{os.pathsep}{os.environ['PATH']}"
    search = str(PROJECT) if deno is None else f"{deno}{os.pathsep}{PROJECT}"
    return subprocess.Popen(
        [sys.executable, "-m", "sandbox_runtime", "install", *options],
        env={
            **os.environ,
            "PATH": path,
            "PYTHONPATH": search,
            "XDG_CACHE_HOME": str(cache),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def install(*args, **kwargs):
    """Runs an installer to its end; returns its exit code and its output."""
    with start(*args, **kwargs) as process:
        message, complained = process.communicate(timeout=100)
    assert complained == ""
    return process.returncode, message


@pytest.fixture
def stand_in(tmp_path):
    """Creates a fake Deno from a shell script, which hides the real package."""

    def make(script):
        folder = tmp_path / "stand-in"
        folder.mkdir(exist_ok=True)
        (folder / "deno.py").write_text("def find_deno_bin():\n    raise FileNotFoundError\n")
        (folder / "deno").write_text(f"#!/bin/sh\n{VERSION}\n{script}\n")
        (folder / "deno").chmod(0o755)
        return folder

    return make


class TestInstall:
    """An engine is fetched, built, verified and stored in the cache."""

    @pytest.mark.nightly  # two whole installations from a registry
    def test_into_an_empty_cache(self, cache):
        """Two processes at once both succeed; everything is complete, sound, and nothing else remains."""
        installers = [start(cache), start(cache)]
        results = [process.communicate(timeout=100) for process in installers]

        assert [process.returncode for process in installers] == [0, 0], results
        assert f"installed in {engine_folder(cache)}" in results[0][0]
        assert left_in(cache) == [engine_folder(cache).name]
        assert {path.name for path in engine_folder(cache).iterdir()} == {
            *assets.INSTALLED_FILES,
            assets.MANIFEST_FILE,
        }
        engine = dataclasses.replace(ready_engine(), folder=engine_folder(cache))
        engine.verify()
        with Session(engine, Limits()) as session:
            assert session.run_cell("1 + 1") == Completed("2\n")

    def test_what_is_there_is_kept(self, cache, stand_in):
        """Nothing is fetched if there is an engine."""
        shutil.copytree(ready_engine().folder, engine_folder(cache))

        code, _ = install(cache, deno=stand_in("exit 1"))

        assert code == 0

    @pytest.mark.nightly
    def test_force_replaces_a_damaged_engine(self, cache):
        """`--force` is the repair that the error messages name."""
        shutil.copytree(ready_engine().folder, engine_folder(cache))
        (engine_folder(cache) / "boot.pages").write_bytes(b"damaged")

        code, _ = install(cache, "--force")

        assert code == 0
        dataclasses.replace(ready_engine(), folder=engine_folder(cache)).verify()

    def test_a_failed_force_keeps_what_was_there(self, cache, stand_in):
        """If fetching fails, the working engine stays."""
        shutil.copytree(ready_engine().folder, engine_folder(cache))

        code, _ = install(cache, "--force", deno=stand_in("echo 'no network' >&2; exit 1"))

        assert code == 1
        dataclasses.replace(ready_engine(), folder=engine_folder(cache)).verify()


class TestFailures:
    """A failure is one line that names the remedy, and leaves no files behind."""

    def test_no_network(self, cache):
        """If the registry is unreachable, the message says that an installed wheel needs no network."""
        code, message = install(cache, NPM_CONFIG_REGISTRY="http://127.0.0.1:9/")

        assert code == 1
        assert "Pyodide could not be fetched" in message
        assert (
            "check the network, or the registry named in .npmrc or NPM_CONFIG_REGISTRY" in message
        )
        assert left_in(cache) == []

    def test_what_deno_says_is_passed_on(self, cache, stand_in):
        """The message quotes the end of Deno's stderr."""
        code, message = install(cache, deno=stand_in("echo 'integrity check failed' >&2; exit 1"))

        assert code == 1
        assert "Pyodide could not be fetched: integrity check failed" in message
        assert left_in(cache) == []

    def test_a_deno_that_fetches_nothing(self, cache, stand_in):
        """A missing file after a successful fetch is an error."""
        code, message = install(cache, deno=stand_in("exit 0"))

        assert code == 1
        assert "FAILED" in message
        assert left_in(cache) == []

    def test_a_cache_that_cannot_be_written(self, tmp_path):
        """The error holds for root too."""
        code, message = install(Path("/proc/1/nowhere"))

        assert code == 1
        assert "cannot be written below /proc/1/nowhere" in message
        assert "point XDG_CACHE_HOME at a folder that has both" in message

    def test_a_file_where_the_cache_should_be(self, cache):
        """The file is left alone, and the error names it."""
        cache.mkdir()
        (cache / "dspy-rlm").write_text("mine")

        code, message = install(cache)

        assert code == 1
        assert f"cannot be written below {cache / 'dspy-rlm'}" in message
        assert (cache / "dspy-rlm").read_text() == "mine"

    @pytest.mark.nightly
    def test_a_file_where_the_engine_should_be(self, cache):
        """`--force` does not replace a file that is not an engine."""
        cache.joinpath("dspy-rlm").mkdir(parents=True)
        engine_folder(cache).write_text("mine")

        code, message = install(cache, "--force")

        assert code == 1
        assert f"cannot be written below {engine_folder(cache)}" in message
        assert engine_folder(cache).read_text() == "mine"

    @pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is Linux's")
    @pytest.mark.parametrize("megabytes", [1, pytest.param(20, marks=pytest.mark.nightly)])
    def test_a_full_disk(self, cache, megabytes):
        """While Pyodide is fetched, or while the files are written."""
        cache.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(cache)]
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("this user may not mount a small disk")
        try:
            code, message = install(cache)
            left = left_in(cache)
        finally:
            subprocess.run(["umount", str(cache)], check=True)

        assert code == 1
        assert "FAILED" in message
        assert "No space" in message
        assert left == []

    def test_opening_a_session_says_the_same(self):
        """The first session of a user installs; its error is the installer's."""
        code = (
            "from sandbox_runtime import *\n"
            "try: open_session()\n"
            "except EngineMissingError as error: print(error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=PROJECT,
            env={**os.environ, "XDG_CACHE_HOME": "/proc/1/nowhere"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert "cannot be written below /proc/1/nowhere" in done.stdout, done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
class TestKilled:
    """An installer that was killed leaves no half engine, and the next sweeps what it left."""

    def test_killed_half_way(self, cache, stand_in, tmp_path):
        """The installer is killed while Deno fetches."""
        begun, end = tmp_path / "begun", tmp_path / "end"
        for pipe in (begun, end):
            os.mkfifo(pipe)
        # Reports its start, then waits until the test is over.
        script = f"echo data > half-a-file; echo begun > '{begun}'; read x < '{end}'"
        with start(cache, deno=stand_in(script)) as installer:
            assert begun.read_text() == "begun\n"
            installer.kill()
            installer.communicate()
            # Lets the fake Deno end, so that no process remains.
            end.write_text("\n")
        [left] = left_in(cache)
        assert left.startswith(f"partial-{installer.pid}-")
        assert not engine_folder(cache).exists()

        install(cache, deno=stand_in("exit 1"))

        assert left_in(cache) == []

    @pytest.mark.nightly
    def test_half_an_engine(self, cache):
        """An incomplete engine is replaced."""
        engine_folder(cache).mkdir(parents=True)
        (engine_folder(cache) / "boot.pages").write_bytes(b"half")

        code, _ = install(cache)

        assert (code, left_in(cache)) == (0, [engine_folder(cache).name])
        dataclasses.replace(ready_engine(), folder=engine_folder(cache)).verify()

    def test_one_that_is_still_at_work_is_left_alone(self, cache, stand_in):
        """Only leftovers of processes that have ended are removed."""
        alive = cache / "dspy-rlm" / f"partial-{os.getpid()}-work"
        alive.mkdir(parents=True)

        install(cache, deno=stand_in("exit 1"))

        assert left_in(cache) == [alive.name]

    def test_an_older_engine_is_left_alone(self, cache, stand_in):
        """Another version of the package may be using it."""
        (cache / "dspy-rlm" / "engine-0123456789abcdef").mkdir(parents=True)

        install(cache, deno=stand_in("exit 1"))

        assert left_in(cache) == ["engine-0123456789abcdef"]
