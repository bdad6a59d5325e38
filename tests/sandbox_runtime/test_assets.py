"""The engine's files: found, verified, or refused with the remedy."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sandbox_runtime import Limits
from sandbox_runtime.engine import assets
from sandbox_runtime.errors import (
    EngineCorruptError,
    EngineError,
    EngineMissingError,
    SandboxStartError,
)
from sandbox_runtime.isolation.os_isolation import NO_WALL, detect
from sandbox_runtime.open import ready_engine
from sandbox_runtime.sessions.session import Session

# The files that a session reads; Deno itself reads the scripts.
READ = (assets.CACHE_FILE, *assets.RUNTIME_FILES, *assets.IMAGE_FILES)


def put_engine(folder):
    """Links the installed engine's files into a folder. They are replaced there, never written to."""
    folder.mkdir(parents=True)
    for file in ready_engine().folder.iterdir():
        try:
            os.link(file, folder / file.name)
        except OSError:  # the cache is on another disk
            shutil.copy(file, folder)


def replace(path, data):
    path.unlink()
    path.write_bytes(data)


@pytest.fixture
def engine(tmp_path):
    """The installed engine in a folder of its own, to be damaged."""
    put_engine(tmp_path / "engine")
    return dataclasses.replace(ready_engine(), folder=tmp_path / "engine")


def truncate(path):
    data = path.read_bytes()
    replace(path, data[: len(data) // 2])


def flip(path):
    """Changes one byte in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    replace(path, data)


class TestVerify:
    """Every installed file is compared with its recorded hash."""

    def test_a_sound_engine(self, engine):
        """An undamaged engine passes verification."""
        engine.verify()

    @pytest.mark.parametrize("name", assets.INSTALLED_FILES)
    def test_a_changed_byte(self, engine, name):
        """Verification detects a changed byte; the error names the file and the remedy."""
        flip(engine.folder / name)

        with pytest.raises(EngineCorruptError, match="hash does not match") as caught:
            engine.verify()

        assert caught.value.path == str(engine.folder / name)
        assert "python -m sandbox_runtime install --force" in str(caught.value)

    @pytest.mark.parametrize("name", [*assets.INSTALLED_FILES, assets.MANIFEST_FILE])
    def test_a_missing_file(self, engine, name):
        """Verification detects a missing file."""
        (engine.folder / name).unlink()

        with pytest.raises(EngineMissingError, match=f"Cannot read .*{name}: No such file"):
            engine.verify()

    @pytest.mark.parametrize(
        "text",
        ["", "{", "[]", "null", "{}", '{"pyodide.mjs": 3}', '{"pyodide.mjs": {"bytes": []}}'],
    )
    def test_a_manifest_that_is_none(self, engine, text):
        """For any content of the manifest, the error is about the manifest."""
        replace(engine.folder / assets.MANIFEST_FILE, text.encode())

        with pytest.raises(EngineCorruptError, match="it is not a manifest"):
            engine.verify()


class TestRead:
    """Reading the files that a sandbox starts from."""

    def test_from_an_image(self, engine):
        """From an image, Pyodide and the image are read; the Python modules are in the image."""
        assert [name for name, _ in engine.files()] == list(READ) == list(engine.file_names)

    def test_from_the_sources(self, engine):
        """From the sources, Pyodide and the Python modules are read; this is how an image is built."""
        sources = dataclasses.replace(engine, from_sources=True)

        assert [name for name, _ in sources.files()] == list(sources.file_names)
        assert set(sources.file_names) == {*assets.RUNTIME_FILES, *assets.PYTHON_FILES}

    def test_from_a_saved_state(self, engine):
        """From a saved state, Pyodide and the state are read, which replaces the installed image."""
        saved = {"boot.head": b"1", "boot.pages": b"2", "disk": b"3"}
        files = dict(dataclasses.replace(engine, saved=saved).files())

        assert set(files) == {assets.CACHE_FILE, *assets.RUNTIME_FILES, *saved}
        assert {name: files[name] for name in saved} == saved

    @pytest.mark.parametrize("name", READ)
    def test_a_truncated_file(self, engine, name):
        """A truncated file is refused before anything starts."""
        truncate(engine.folder / name)

        with pytest.raises(EngineCorruptError, match="its size has changed"):
            list(engine.files())


class TestSessionOnDamage:
    """A session on a damaged engine does not start, states the cause, and leaves no process running."""

    @pytest.mark.parametrize("name", READ)
    def test_a_truncated_file(self, engine, name, deno_children):
        """A session on a truncated file fails with an error about that file."""
        before = deno_children()
        truncate(engine.folder / name)

        with pytest.raises(EngineCorruptError, match=name):
            Session(engine, Limits())

        assert deno_children() == before

    @pytest.mark.parametrize("name", READ)
    def test_a_missing_file(self, engine, name, deno_children):
        """A session without a file fails with an error about that file."""
        before = deno_children()
        (engine.folder / name).unlink()

        with pytest.raises(EngineMissingError, match=name):
            Session(engine, Limits())

        assert deno_children() == before

    @pytest.mark.parametrize("name", ["pyodide.asm.wasm", "boot.head", "boot.pages"])
    def test_a_file_of_the_right_size(self, engine, name, deno_children):
        """If the interpreter cannot start from a file, the error recommends `doctor`."""
        before = deno_children()
        path = engine.folder / name
        replace(path, b"\xff" * path.stat().st_size)

        with pytest.raises(SandboxStartError, match="python -m sandbox_runtime doctor"):
            Session(engine, Limits())

        assert deno_children() == before

    @pytest.mark.parametrize("name", ["pyodide.js", "pyodide.cache"])
    def test_a_file_that_v8_would_take(self, engine, name, deno_children):
        """The hash detects one changed byte, with which the interpreter would start and behave arbitrarily."""
        before = deno_children()
        flip(engine.folder / name)

        with pytest.raises(EngineCorruptError, match=f"{name} is damaged: its hash does not match"):
            Session(engine, Limits())

        assert deno_children() == before

    @pytest.mark.parametrize("name", assets.SCRIPT_FILES)
    def test_a_broken_script(self, engine, name, deno_children):
        """The message quotes Deno's error about the script."""
        before = deno_children()
        replace(engine.folder / name, b"export {")

        with pytest.raises(SandboxStartError, match=r"doctor"):
            Session(engine, Limits())

        assert deno_children() == before

    def test_a_program_that_is_not_deno(self, engine, tmp_path, deno_children):
        """The message quotes the end of its stderr."""
        script = tmp_path / "deno"
        script.write_text("#!/bin/sh\necho 'libc.so.9: not found' >&2\nexit 127\n")
        script.chmod(0o755)

        with pytest.raises(SandboxStartError, match=r"code 127; .*libc\.so\.9: not found"):
            Session(dataclasses.replace(engine, deno=script, wall=NO_WALL), Limits())

    def test_a_program_that_says_nothing(self, engine, tmp_path):
        """A silent program is killed after `start_seconds`."""
        script = tmp_path / "deno"
        script.write_text("#!/bin/sh\ncat > /dev/null\n")
        script.chmod(0o755)

        with pytest.raises(SandboxStartError, match="it did not answer in time"):
            Session(
                dataclasses.replace(engine, deno=script, wall=NO_WALL), Limits(start_seconds=0.1)
            )

    def test_a_program_that_speaks_nonsense(self, engine, tmp_path):
        """Invalid bytes violate the protocol."""
        script = tmp_path / "deno"
        script.write_text("#!/bin/sh\nprintf 'hello\\r\\n\\r\\n'\nexec cat > /dev/null\n")
        script.chmod(0o755)

        with pytest.raises(SandboxStartError, match="not a frame"):
            Session(dataclasses.replace(engine, deno=script, wall=NO_WALL), Limits())

    def test_a_program_that_cannot_be_started(self, engine, tmp_path):
        """The message quotes the operating system's reason."""
        with pytest.raises(SandboxStartError, match=r"Cannot start .*No such file"):
            Session(dataclasses.replace(engine, deno=tmp_path / "deno"), Limits())


class TestCommand:
    """The command line grants no permissions."""

    def test_every_right_is_denied(self, engine):
        """Every permission is denied by name, and none is allowed."""
        command = engine.command(Limits())

        for right in ("read", "write", "net", "env", "run", "ffi", "sys", "import"):
            assert f"--deny-{right}" in command
        assert not [flag for flag in command if flag.startswith("--allow")]
        assert "--no-prompt" in command

    def test_no_code_from_strings(self, engine):
        """V8 is started with code generation from strings disabled."""
        assert any("--disallow-code-generation-from-strings" in f for f in engine.command(Limits()))

    def test_nothing_secret_is_in_it(self, engine):
        """A process's command line and environment are readable by its own code: seven names."""
        assert set(engine.environment) == {
            "DENO_DIR",
            "DENO_NO_UPDATE_CHECK",
            "DENO_NO_PACKAGE_JSON",
            "NO_COLOR",
            "TZ",
            "RUST_MIN_STACK",
            "MALLOC_MMAP_THRESHOLD_",
        }

    def test_the_key_follows_the_sources(self):
        """An image is used only with the sources that it was built from."""
        assert len(assets.engine_key()) == 16
        assert assets.cache_folder().name == f"engine-{assets.engine_key()}"


@pytest.fixture
def elsewhere(tmp_path):
    """Runs code in a Python of its own, for which the package `deno` has no program in it.

    `deno` on the PATH is a shell script; `says` is what it prints for `--version`.
    """
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "deno.py").write_text("def find_deno_bin():\n    raise FileNotFoundError\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    project = Path(assets.__file__).parents[2]

    def run(*arguments, says=None, **environment):
        if says is not None:
            script = programs / "deno"
            script.write_text(f"#!/bin/sh\n{says}\n")
            script.chmod(0o755)
        return subprocess.run(
            [sys.executable, *arguments],
            env={
                "PATH": str(programs),
                "PYTHONPATH": os.pathsep.join([str(packages), str(project)]),
                "HOME": str(tmp_path),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


class TestDeno:
    """Deno comes from PyPI or the PATH, in a tested version."""

    def test_none(self, elsewhere):
        """Without Deno, the message says what to install."""
        done = elsewhere("-m", "sandbox_runtime", "doctor")

        assert done.returncode == 1
        assert "Cannot start the sandbox: the package deno is installed for" in done.stdout

    @pytest.mark.parametrize("version", ["1.46.3", "2.8.99", "2.9.7", "3.0.0", "10.0.0"])
    def test_too_old_or_too_new(self, elsewhere, version):
        """The message states the version, the required range and the remedy."""
        done = elsewhere("-m", "sandbox_runtime", "doctor", says=f"echo 'deno {version} (stable)'")

        assert done.returncode == 1
        assert f"is Deno {version}, need 2.9.8 or newer, below 3.0.0. Install" in done.stdout

    @pytest.mark.parametrize(
        ("version", "flaw"),
        [("2.5.0", "CVE-2026-22864"), ("2.7.9", "CVE-2026-49402"), ("2.8.0", "CVE-2026-49440")],
    )
    def test_one_with_a_known_flaw(self, elsewhere, version, flaw):
        """Session start and `doctor` refuse it by name, and state the flaw's subject."""
        code = (
            "from sandbox_runtime import *\n"
            "try: open_session()\nexcept DenoVersionError as e: print(e)"
        )
        opened = elsewhere("-c", code, says=f"echo 'deno {version} (stable)'")
        checked = elsewhere("-m", "sandbox_runtime", "doctor")

        for message in (opened.stdout, checked.stdout):
            assert f"Deno {version}, which has a known flaw: {flaw} (" in message
            assert "Install it with: pip install" in message

    def test_another_program_of_that_name(self, elsewhere):
        """The message quotes the program's output."""
        done = elsewhere("-m", "sandbox_runtime", "doctor", says="echo hello")

        assert done.returncode == 1
        assert "is not a Deno executable: it prints 'hello" in done.stdout

    def test_one_that_does_not_run(self, elsewhere, tmp_path):
        """A file that is not executable as a program is an error."""
        (tmp_path / "bin" / "deno").write_bytes(b"\x7fELF broken")
        (tmp_path / "bin" / "deno").chmod(0o755)

        done = elsewhere("-m", "sandbox_runtime", "doctor")

        assert done.returncode == 1
        assert "does not run" in done.stdout

    def test_opening_a_session_says_the_same(self, elsewhere):
        """Opening a session raises the documented type with the same message."""
        code = (
            "from sandbox_runtime import *\n"
            "try: open_session()\n"
            "except DenoNotFoundError as e: assert isinstance(e, EngineError); print(e)"
        )

        assert (
            "Cannot start the sandbox: the package deno is installed"
            in elsewhere("-c", code).stdout
        )

    def test_importing_looks_for_nothing(self, elsewhere):
        """Importing the package does not search for Deno."""
        assert elsewhere("-c", "import sandbox_runtime").returncode == 0


def run_python(*arguments, **environment):
    """A Python of its own, with this project on its path."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(assets.__file__).parents[2],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class TestDoctor:
    """`python -m sandbox_runtime doctor` checks every part, and starts a sandbox."""

    def test_when_all_is_well(self):
        """Each part has a line, and the exit code is 0."""
        ready_engine()
        done = run_python("-m", "sandbox_runtime", "doctor")

        assert (done.returncode, done.stderr) == (0, "")
        heading, deno, wall, files, sandbox, verdict = done.stdout.splitlines()
        assert heading.startswith("dspy-rlm ")
        assert [line.split()[:2] for line in (deno, wall, files, sandbox)] == [
            ["deno", "ok"],
            ["wall", "ok"],
            ["files", "ok"],
            ["sandbox", "ok"],
        ]
        assert "ran a cell on Python 3.14" in sandbox
        assert verdict == "all parts work"

    def test_as_json(self):
        """The JSON is one object with a version; its parts are those of the text."""
        ready_engine()
        done = run_python("-m", "sandbox_runtime", "doctor", "--json")
        message = json.loads(done.stdout)

        assert (done.returncode, done.stderr, message["schema"], message["ok"]) == (0, "", 1, True)
        assert [check["name"] for check in message["checks"]] == [
            "deno",
            "wall",
            "files",
            "sandbox",
        ]
        assert all(check["ok"] and check["detail"] for check in message["checks"])
        offered = detect()
        assert message["wall"]["offered"] == dataclasses.asdict(offered)
        assert message["wall"]["complete"] == offered.complete == (not message["wall"]["missing"])
        assert message["deno"]["version"].startswith("2.")
        assert message["engine"]["folder"] == str(assets.find_engine().folder)
        assert message["default_limits"] == dataclasses.asdict(Limits())

    def test_a_failure_as_json(self, elsewhere, tmp_path):
        """The failed part is the last one, with its remedy; parts that were not reached are null."""
        done = elsewhere(
            "-m",
            "sandbox_runtime",
            "doctor",
            "--json",
            says="echo 'deno 2.9.8 (stable)'",
            XDG_CACHE_HOME=str(tmp_path / "cache"),
        )
        message = json.loads(done.stdout)

        assert (done.returncode, message["ok"], message["engine"], message["sandbox"]) == (
            1,
            False,
            None,
            None,
        )
        assert message["checks"][-1]["name"] == "files"
        assert not message["checks"][-1]["ok"]
        assert "python -m sandbox_runtime install" in message["checks"][-1]["fix"]

    def test_a_wall_that_is_required(self, elsewhere):
        """A Deno that does not start behind the wall is a failure only if it is required; the reason is named."""
        arguments = ("-m", "sandbox_runtime", "doctor")
        says = (
            "echo 'deno 2.9.8 (stable)'"  # a script: its shell may not be executed behind the wall
        )
        free = elsewhere(*arguments, says=says)
        required = elsewhere(*arguments, "--require-wall", says=says)

        assert "wall     ok" in free.stdout
        assert required.returncode == 1
        assert "wall     FAILED" in required.stdout
        assert "require_wall asks for the whole wall" in required.stdout

    def test_missing_files(self, elsewhere, tmp_path):
        """The first failed part has its remedy, and the following ones are not tried."""
        done = elsewhere(
            "-m",
            "sandbox_runtime",
            "doctor",
            says="echo 'deno 2.9.8 (stable)'",
            XDG_CACHE_HOME=str(tmp_path / "cache"),
        )

        assert done.returncode == 1
        assert "files    FAILED" in done.stdout
        assert "Install them with: python -m sandbox_runtime install" in done.stdout
        assert "sandbox " not in done.stdout.splitlines()[-1].split("FAILED")[0]

    def test_a_damaged_file(self, tmp_path):
        """`doctor` names the damaged file."""
        cache = tmp_path / "cache"
        folder = cache / "dspy-rlm" / assets.cache_folder().name
        put_engine(folder)
        flip(folder / "python_stdlib.zip")
        done = run_python("-m", "sandbox_runtime", "doctor", XDG_CACHE_HOME=str(cache))

        assert done.returncode == 1
        assert "python_stdlib.zip is damaged: its hash does not match." in done.stdout

    # The library's archive is not needed for the start: `doctor` finds that it is damaged.
    @pytest.mark.parametrize("name", ["worker.js", "pyodide.asm.wasm", "boot.pages"])
    def test_opening_a_session_names_the_damaged_file(self, tmp_path, name):
        """If a session does not start, the files are checked first."""
        cache = tmp_path / "cache"
        folder = cache / "dspy-rlm" / assets.cache_folder().name
        put_engine(folder)
        replace(folder / name, b"\xff" * (folder / name).stat().st_size)
        code = (
            "from sandbox_runtime import *\n"
            "try: open_session(Limits(start_seconds=20)).close()\n"
            "except EngineCorruptError as e: print(e.path)"
        )
        done = run_python("-c", code, XDG_CACHE_HOME=str(cache))

        assert (done.stdout.strip(), done.stderr) == (str(folder / name), "")

    def test_an_unknown_command(self):
        """An unknown command exits with the usual code of a wrong command line."""
        done = run_python("-m", "sandbox_runtime", "heal")

        assert done.returncode == 2


class TestErrors:
    """All errors have a common base class."""

    def test_everything_about_the_engine_is_an_engine_error(self, engine):
        """`except EngineError` catches every missing part."""
        replace(engine.folder / assets.MANIFEST_FILE, b"{}")

        with pytest.raises(EngineError):
            list(engine.files())
