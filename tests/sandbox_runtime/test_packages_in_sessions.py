"""Packages in sessions, and the command that shows what a session would mount."""

from __future__ import annotations

import hashlib
import os
import signal
import zipfile

import pytest

from sandbox_runtime import (
    CheckpointError,
    Completed,
    Failed,
    Limits,
    Pool,
    SandboxStartError,
    Session,
    __main__,
    resolve_packages,
)
from sandbox_runtime.engine import assets
from sandbox_runtime.installation import package_images
from sandbox_runtime.installation.package_images import with_packages
from sandbox_runtime.open import ready_engine
from sandbox_runtime.packages import pip_shim as pip_for_sandbox


class TestSession:
    """Packages in a session."""

    def test_they_are_there_before_the_first_cell(self, resolved, opened):
        """Packages are imported, have their metadata, and bind no name in the namespace."""
        session = opened(packages=[resolved])

        assert session.run_cell("import sys; 'thing' in sys.modules") == Completed("True\n")
        assert session.run_cell("'thing' in globals()") == Completed("False\n")
        assert session.run_cell(
            "import thing, importlib.metadata as m; thing.__file__, m.version('thing')"
        ) == Completed("('/packages/thing/__init__.py', '1.0')\n")

    def test_without_them_nothing_is_mounted(self, opened):
        """A session has only the packages that it was opened with."""
        result = opened().run_cell("import os, sys; os.path.exists('/packages'), sys.path[-1]")

        assert isinstance(result, Completed)
        assert "/packages" not in result.output
        assert "False" in result.output

    def test_cells_cannot_change_them(self, resolved, opened):
        """No attempt of a cell changes a package's file, not even after changing its mode."""
        session = opened(packages=[resolved])
        session.run_cell("import mmap, os, shutil\nFILE = '/packages/thing/__init__.py'")

        attempts = [
            "open(FILE, 'w')",
            "open(FILE, 'r+b')",
            "open('/packages/new.py', 'w')",
            "os.chmod(FILE, 0o777)",
            "os.chmod('/packages', 0o777)",
            "os.unlink(FILE)",
            "os.truncate(FILE, 0)",
            "os.rename(FILE, FILE + '2')",
            "os.rename(FILE, '/tmp/away')",
            "os.rename('/packages', '/away')",
            "os.rmdir('/packages/thing')",
            "os.mkdir('/packages/new')",
            "os.symlink('/tmp', '/packages/new')",
            "os.utime(FILE, (1, 1))",
            "shutil.rmtree('/packages')",
            "mmap.mmap(os.open(FILE, os.O_RDONLY), 3)",
        ]
        for attempt in attempts:
            result = session.run_cell(attempt)
            assert isinstance(result, Failed), attempt
            assert result.error_type in ("OSError", "PermissionError"), attempt
        assert session.run_cell("open(FILE).read()") == Completed("\"VERSION = '1.0'\\n\"\n")

    def test_a_healed_session_has_them_again(self, resolved, opened):
        """They belong to the session, not to its process."""
        session = opened(
            packages=[resolved], tools={"die": lambda: os.kill(session.pid, signal.SIGKILL)}
        )

        died = session.run_cell("die()")

        assert isinstance(died, Failed)
        assert not died.state_lost
        assert session.run_cell("import thing; thing.VERSION") == Completed("'1.0'\n")

    @pytest.mark.nightly  # makes two images
    def test_a_state_belongs_to_its_packages(self, resolved, opened):
        """A session with other packages cannot restore it."""
        with opened(packages=[resolved]) as session:
            session.run_cell("import thing")
            state = session.checkpoint()

        with pytest.raises(CheckpointError, match="Open the session with the same `packages`"):
            opened(restore=state)
        restored = opened(packages=[resolved], restore=state)
        assert restored.run_cell("thing.VERSION") == Completed("'1.0'\n")

    @pytest.mark.nightly  # opens three sessions with images of their own
    def test_the_pool_keeps_them_apart(self, resolved):
        """A session with packages is not lent in place of one without."""
        found = resolve_packages([resolved])
        pool = Pool()
        try:
            with pool.lend(packages=found) as session:
                assert session.run_cell("import thing; thing.VERSION") == Completed("'1.0'\n")
            with pool.lend() as session:
                assert isinstance(session.run_cell("import thing"), Failed)
        finally:
            pool.close()

    def test_an_image_larger_than_the_memory_is_not_used(self, resolved):
        """The packages are then imported on demand."""
        found = resolve_packages([resolved])

        assert with_packages(ready_engine(), found).packages.image is not None
        assert with_packages(ready_engine(), found, 1024).packages.image is None

    def test_one_that_cannot_be_imported(self, index, wheel, opened):
        """The session opens; the cell that imports the package sees the error."""
        index.add(wheel("thing", files={"thing.py": "import socketserver_", "fine.py": "x = 1"}))

        session = opened(packages=["thing"])

        assert session.run_cell("import fine; fine.x") == Completed("1\n")
        failed = session.run_cell("import thing")
        assert isinstance(failed, Failed)
        assert failed.error_type == "ModuleNotFoundError"

    def test_what_fails_once_is_tried_again(self, thing, opened, monkeypatch):
        """A temporary failure leaves the packages without an image; the next session builds one."""

        class Failing(Session):
            def __init__(self, engine, *args, **kwargs):
                if engine.packages.image is not None:
                    raise SandboxStartError("no memory was left")
                super().__init__(engine, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(package_images, "Session", Failing)
            found = resolve_packages([thing])
        assert not [*found.folder.glob("*.image"), *found.folder.glob("*.none")]
        assert opened(packages=found).run_cell("import thing; thing.VERSION") == Completed(
            "'1.0'\n"
        )
        assert [*found.folder.glob("*.image")]

    @pytest.mark.nightly  # `test_what_fails_once_is_tried_again` makes an image later too
    def test_a_refresh_tries_again_to_make_an_image(self, resolved):
        """A refresh retries even if the cache records that no image can be built."""
        found = resolve_packages([resolved])
        [image] = found.folder.glob("*.image")
        reason = b"it could not be made\n"
        name = f"{assets.engine_key()}-{hashlib.sha256(reason).hexdigest()}.none"
        image.unlink()
        (found.folder / name).write_bytes(reason)

        resolve_packages([resolved])
        assert [path.name for path in found.folder.glob(f"{assets.engine_key()}-*")] == [name]
        resolve_packages([resolved], refresh=True)
        assert [path.suffix for path in found.folder.glob(f"{assets.engine_key()}-*")] == [".image"]

    def test_slow_imports_together_have_one_deadline(self, index, wheel, opened, monkeypatch):
        """After it no further module is imported for an image; the file that records it has the reason."""
        index.add(wheel("thing", files={f"m{number}.py": "" for number in range(9)}))
        monkeypatch.setattr(package_images, "IMAGE_SECONDS", 0, raising=False)
        cells = []

        class Counting(Session):
            def run_cell(self, code, /):
                cells.append(code)
                return super().run_cell(code)

        with monkeypatch.context() as patch:
            patch.setattr(package_images, "Session", Counting)
            found = resolve_packages(["thing"])

        assert cells == []
        [note] = found.folder.glob("*.none")
        assert "take more than 0 s; m0 was next" in note.read_text()
        assert opened(packages=found).run_cell("import m8; m8.__name__") == Completed("'m8'\n")

    def test_one_that_is_interrupted_is_the_last(self, index, wheel, monkeypatch):
        """The first import that is interrupted ends the attempt: the next ones could take as long."""
        index.add(wheel("thing", files={f"m{number}.py": "while True: pass" for number in "123"}))
        monkeypatch.setattr(package_images, "Limits", lambda: Limits(cell_seconds=0.5))

        found = resolve_packages(["thing"])

        [note] = found.folder.glob("*.none")
        assert "The import of m1 was interrupted" in note.read_text()

    @pytest.mark.nightly  # `test_what_fails_once_is_tried_again` is the same path with a cheaper failure
    def test_one_that_ends_the_process(self, index, wheel, opened):
        """No image is built and no retry happens; the file that records it has the reason."""
        index.add(
            wheel(
                "thing",
                files={
                    "thing.py": "import ctypes; ctypes.string_at(2**31, 10)",
                    "fine.py": "x = 1",
                },
            )
        )

        found = resolve_packages(["thing"])
        session = opened(packages=found)

        assert session.run_cell("import fine; fine.x") == Completed("1\n")
        [note] = found.folder.glob("*.none")
        assert "The sandbox ended when it imported thing" in note.read_text()

    @pytest.mark.nightly  # `test_one_that_cannot_be_imported` shows the same without WebAssembly
    def test_a_compiled_module_that_cannot_be_loaded(self, index, wheel, opened, tmp_path):
        """Its import fails; images can be taken nevertheless."""
        broken = (
            bytes.fromhex("0061736d01000000")
            + bytes([0, 14, 8])
            + b"dylink.0"
            + b"\x01\x04\0\0\1\0"
        )
        path = wheel(
            "thing", files={"thing.py": "x = 1"}, tag=f"cp314-cp314-{pip_for_sandbox.PLATFORM}"
        )
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("native.cpython-314-wasm32-emscripten.so", broken)
        index.add(path)

        session = opened(packages=["thing"])

        failed = session.run_cell("import native")
        assert isinstance(failed, Failed)
        assert failed.error_type == "ImportError"
        assert session.checkpoint().size > 1_000_000
        assert session.run_cell("import thing; thing.x") == Completed("1\n")

    def test_two_sessions_share_nothing(self, resolved, opened):
        """Changes of a cell to an imported package end with its session."""
        found = resolve_packages([resolved])
        opened(packages=found).run_cell("import thing; thing.VERSION = 'mine'")

        assert opened(packages=found).run_cell("import thing; thing.VERSION") == Completed(
            "'1.0'\n"
        )


class TestCommand:
    """`python -m sandbox_runtime packages`."""

    def test_it_shows_what_would_be_mounted(self, resolved, capsys):
        """Each package, its version and its file."""
        assert __main__.main(["packages", resolved]) == 0

        message = capsys.readouterr().out
        assert "to mount, in" in message
        assert "  thing 1.0  thing-1.0-py3-none-any.whl" in message

    def test_a_refusal_is_one_line(self, index, capsys):
        """The refusal is a single line, and the exit code is not 0."""
        assert __main__.main(["packages", "missing-one"]) == 1

        assert "FAILED" in capsys.readouterr().out
