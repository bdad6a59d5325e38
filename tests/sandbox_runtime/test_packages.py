"""Packages for the sandbox: what resolves to what, what is refused and why, and what cells get.

`TestFromTheRegistry` asks the real package index. The rest has one of its own, served over HTTP, whose
wheels are made here.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from cells import PROJECT
from hypothesis import given
from hypothesis import strategies as st
from package_index import CLOSED, sha256

from sandbox_runtime import (
    CheckpointError,
    Completed,
    Failed,
    Limits,
    PackageError,
    PackageSet,
    Pool,
    SandboxStartError,
    Session,
    __main__,
    open_session,
    resolve_packages,
)
from sandbox_runtime.engine import assets
from sandbox_runtime.installation import install
from sandbox_runtime.installation.install import with_packages
from sandbox_runtime.open import ready_engine
from sandbox_runtime.packages import pip_shim as pip_for_sandbox
from sandbox_runtime.packages import resolve as packages
from sandbox_runtime.packages import store as package_sets
from sandbox_runtime.packages import wheels
from sandbox_runtime.packages.lockfile import MAX_LOCK_BYTES, read_lock
from sandbox_runtime.packages.pip_errors import explain, last_words
from sandbox_runtime.packages.pip_report import MAX_REPORT_BYTES, as_named, read_report
from sandbox_runtime.packages.pyodide_index import DISTRIBUTION_VARIABLE, fetch


def names(found: PackageSet) -> list[str]:
    return sorted(package.name for package in found.packages)


def forget_images() -> None:
    """As in a new process."""
    install._is_sound.cache_clear()


def refusal(*requirements: str, **options) -> str:
    with pytest.raises(PackageError) as caught:
        packages.resolve(requirements, **options)
    return str(caught.value)


@pytest.fixture(scope="module")
def found() -> PackageSet:
    """The issue's example, freshly asked for; in the cache of the user who runs the tests."""
    return resolve_packages(["pydantic", "networkx"], refresh=True)


class TestFromTheRegistry:
    """The issue's own example, from the index that pip is configured for."""

    def test_a_compiled_package_comes_as_a_wheel_for_webassembly(self, found):
        """And each file is the one whose hash was told."""
        files = {package.name.replace("_", "-"): package for package in found.packages}

        assert {"pydantic", "pydantic-core", "networkx", "typing-extensions"} <= files.keys()
        assert files["pydantic-core"].file.endswith(f"-{pip_for_sandbox.PLATFORM}.whl")
        assert files["networkx"].file.endswith("-none-any.whl")
        assert found.imports == ("networkx", "pydantic")
        for package in found.packages:
            assert sha256(found.folder / package.file) == package.sha256

    def test_cells_use_both(self, found, opened):
        """Without a network, and imported before the first cell."""
        session = opened(packages=found)

        assert session.run_cell(
            "import sys; [name in sys.modules for name in ('pydantic_core', 'networkx')]"
        ) == Completed("[True, True]\n")
        assert session.run_cell(
            "import pydantic\n"
            "class Point(pydantic.BaseModel):\n"
            "    x: int\n"
            "    near: list['Point'] = []\n"
            'Point.model_validate_json(\'{"x": 1, "near": [{"x": "2"}]}\')'
        ) == Completed("Point(x=1, near=[Point(x=2, near=[])])\n")
        assert session.run_cell(
            "import networkx as nx; nx.shortest_path(nx.path_graph(4), 0, 3)"
        ) == Completed("[0, 1, 2, 3]\n")
        failed = session.run_cell("Point(x='no')")
        assert isinstance(failed, Failed)
        assert failed.error_type == "ValidationError"

    @pytest.mark.nightly
    def test_an_image_taken_after_a_compiled_import_can_be_continued(self, found, tmp_path):
        """In the session's middle, and again from there: the modules lie where they were."""
        engine = with_packages(ready_engine(), found)
        engine = dataclasses.replace(
            engine, packages=dataclasses.replace(engine.packages, image=None)
        )

        def continued(session: Session) -> Session:
            state = session.checkpoint()
            session.close()
            return Session(engine, Limits(), restore=state)

        first = Session(engine, Limits())
        first.run_cell("import sys; early = 'pydantic_core' in sys.modules")
        first.run_cell("import pydantic\nclass P(pydantic.BaseModel):\n    x: int\np = P(x='1')")
        first.run_cell("counted = iter(range(9)); next(counted)")
        with continued(first) as second:
            result = second.run_cell("early, p, P(x='2'), next(counted)")
            assert result == Completed("(False, P(x=1), P(x=2), 1)\n")
            with continued(second) as third:
                assert third.run_cell("P(x='3'), next(counted)") == Completed("(P(x=3), 2)\n")

    @pytest.mark.nightly
    def test_one_that_only_other_platforms_have(self):
        """It names both sources and what each of them lacks."""
        said = refusal("uvloop")

        assert "uvloop has no wheel for WebAssembly" in said
        assert "manylinux" in said
        assert "Pyodide's own distribution does not have it either." in said

    @pytest.mark.nightly
    def test_one_that_nobody_has(self):
        """It is told apart from one without a fitting wheel."""
        assert "has no package no-such-package-0123456789" in refusal("no-such-package-0123456789")


class TestResolve:
    """What a list of requirements comes to."""

    def test_dependencies_are_the_sandboxs(self, index, wheel):
        """Markers are those of the sandbox, not of the machine that resolves."""
        index.add(
            wheel(
                "thing",
                "1.0",
                'inside; sys_platform == "emscripten" and python_version >= "3.14"',
                f'outside; sys_platform == "{sys.platform}"',
            )
        )
        index.add(wheel("inside"))

        assert names(packages.resolve(["thing"])) == ["inside", "thing"]

    def test_the_markers_are_what_the_sandbox_says_of_itself(self, lent):
        """What pip is told comes from there."""
        result = lent().run_cell(
            "import os, platform, sys\n"
            "print(dict(implementation_name=sys.implementation.name,\n"
            "implementation_version=platform.python_version(), os_name=os.name,\n"
            "platform_machine=platform.machine(),\n"
            "platform_python_implementation=platform.python_implementation(),\n"
            "platform_system=platform.system(),\n"
            "python_full_version=platform.python_version(),\n"
            "python_version='.'.join(platform.python_version_tuple()[:2]),\n"
            "sys_platform=sys.platform))"
        )

        assert result == Completed(f"{pip_for_sandbox.MARKERS}\n")

    def test_it_is_remembered_without_a_network(self, index, thing, monkeypatch):
        """Also in another order and spelling, and when there is a newer version."""
        found = packages.resolve([thing])
        asked = len(index.requests)
        monkeypatch.setenv("PIP_INDEX_URL", CLOSED)
        package_sets.load.cache_clear()

        assert packages.resolve(["thing", " thing"]) == found
        assert len(index.requests) == asked

    def test_a_refresh_asks_again(self, index, thing, wheel):
        """What was resolved before stays as it is, for the sessions that have it."""
        old = packages.resolve([thing])
        index.add(wheel("thing", "2.0"))

        assert packages.resolve([thing]).packages[0].version == "1.0"
        new = packages.resolve([thing], refresh=True)
        assert new.packages[0].version == "2.0"
        assert packages.resolve([thing]) == new
        assert old.bundle.stat().st_size == old.bundle_bytes

    def test_a_set_is_a_key(self, thing):
        """Equal sets are equal, and hash alike."""
        assert {packages.resolve([thing]): 1}[packages.resolve([thing])] == 1

    def test_a_wheel_of_the_users_own(self, index, wheel):
        """By its address, as pip writes it."""
        path = wheel("mine")

        found = packages.resolve([f"mine @ {path.as_uri()}"])

        assert names(found) == ["mine"]

    def test_a_wheel_behind_a_password(self, index, wheel, cache, tmp_path):
        """The address is used as it was written, and the password is kept nowhere."""
        folder = tmp_path / "private"
        folder.mkdir()
        wheel("mine").rename(folder / "mine-1.0-py3-none-any.whl")
        expected = "Basic " + base64.b64encode(b"me:open-sesame").decode()

        class Private(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, directory=str(folder), **kwargs)

            def do_GET(self):
                if self.headers.get("Authorization") == expected:
                    return super().do_GET()
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="x"')
                self.send_header("Content-Length", "0")
                return self.end_headers()

            def log_message(self, *args):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Private) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            place = f"127.0.0.1:{server.server_port}/mine-1.0-py3-none-any.whl"
            found = packages.resolve([f"mine @ http://me:open-sesame@{place}"])
            said = refusal(f"mine @ http://me:wrong-sesame@{place}")
            server.shutdown()
            thread.join()

        assert str(found) == "mine 1.0"
        assert "sesame" not in said
        kept = [file for file in cache.rglob("*") if file.is_file() and file.stat().st_size < 10**6]
        assert not [file for file in kept if b"sesame" in file.read_bytes()]

    def test_two_processes_at_once(self, index, thing, cache):
        """Both get the same, and nothing else is left."""
        command = [sys.executable, "-m", "sandbox_runtime", "packages", thing]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        started = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        said = [process.communicate(timeout=100)[0] for process in started]

        assert [process.returncode for process in started] == [0, 0], said
        found = packages.resolve([thing])
        assert {path.name for path in package_sets.cache_folder().glob("*")} == {
            found.folder.name,
            *(path.name for path in package_sets.cache_folder().glob("request-*.json")),
        }
        assert len([*found.folder.glob("*.image")]) == 1
        assert not [*found.folder.glob("partial-*")]

    def test_what_a_killed_process_left_is_swept(self, index, thing):
        """As the engine's installer does it."""
        with subprocess.Popen([sys.executable, "-c", ""]) as process:
            process.wait()
        left = package_sets.cache_folder() / f"partial-{process.pid}-work"
        left.mkdir(parents=True)

        packages.resolve([thing])

        assert not left.exists()


class TestRefused:
    """A package that cannot be had: the reason, in words."""

    @pytest.mark.parametrize(
        ("requirements", "reason"),
        [
            (["-r secrets.txt"], "is not a requirement that pip takes"),
            (["--index-url=http://elsewhere"], "is not a requirement that pip takes"),
            (["two words"], "is not a requirement that pip takes"),
            ([""], "is not a requirement that pip takes"),
            ([7], "is not a requirement that pip takes"),
            (["mine @ git+https://example.invalid/mine"], "something else than a wheel"),
            (["mine @ https://example.invalid/mine.tar.gz"], "something else than a wheel"),
            (["./folder"], "is not a requirement that pip takes"),
            ([], "names no package"),
            ("pydantic", 'write ["pydantic"]'),
        ],
    )
    def test_bad_requirements(self, requirements, reason):
        """Nothing of it reaches pip's command line."""
        with pytest.raises(PackageError) as caught:
            packages.resolve(requirements)

        assert reason in str(caught.value)

    def test_nothing_is_left_for_the_sandbox(self, index):
        """Its markers do not hold there."""
        said = refusal('thing; sys_platform == "win32"')

        assert "the markers say that the sandbox needs none" in said

    def test_no_wheel_for_the_sandbox(self, index, wheel):
        """It says for what there are wheels."""
        index.add(wheel("fast", tag="cp314-cp314-manylinux_2_28_x86_64"))
        index.add(wheel("fast", tag="cp313-cp313-pyemscripten_2025_0_wasm32"))

        said = refusal("fast")

        assert "only for manylinux, pyemscripten_2025_0_wasm32" in said

    def test_only_source(self, index, tmp_path):
        """To build it would run its code on the host."""
        source = tmp_path / "fast-1.0.tar.gz"
        source.write_bytes(b"")
        index.add(source)

        assert "fast has no wheel at the package index, only its source." in refusal("fast")

    def test_no_such_version(self, thing):
        """It says which there are."""
        said = refusal("thing>=2")

        assert "No version of thing fits; for the sandbox, these exist: 1.0." in said

    def test_a_dependency_is_missing(self, index, wheel):
        """It is the one that is named."""
        index.add(wheel("thing", "1.0", "missing-one>=3"))

        assert "has no package missing-one" in refusal("thing")

    def test_requirements_that_contradict_each_other(self, index, wheel):
        """pip's own words."""
        index.add(wheel("left", "1.0", "thing<2"))
        index.add(wheel("right", "1.0", "thing>=2"))
        index.add(wheel("thing", "1.0"))
        index.add(wheel("thing", "2.0"))

        assert "conflicting dependencies" in refusal("left", "right")

    def test_no_network(self, index, monkeypatch):
        """Both sources are out of reach, and both are named."""
        monkeypatch.setenv("PIP_INDEX_URL", CLOSED)

        said = refusal("numpy")

        assert "numpy cannot be looked up, the package index is out of reach" in said
        assert "Pyodide's own distribution has numpy 2.4.6, but it cannot be taken from" in said
        assert said.count("refused") == 2

    def test_a_file_that_is_not_what_the_index_says(self, index, wheel):
        """Its hash differs: it is not used."""
        index.add(wheel("thing"), digest="0" * 64)

        said = refusal("thing")

        assert "HASH" in said.upper()
        assert not [*package_sets.cache_folder().glob("set-*")]

    @pytest.mark.parametrize(
        "place", ["../outside.py", "/etc/passwd", "thing/../../outside.py", "a\\b.py"]
    )
    def test_a_wheel_that_reaches_out(self, index, wheel, place):
        """A file's name cannot lead out of the folder of packages."""
        index.add(wheel("thing", files={place: ""}))

        assert "outside of its own" in refusal("thing")

    def test_a_wheel_that_expands_beyond_measure(self, index, wheel, monkeypatch):
        """It is refused before it is unpacked."""
        monkeypatch.setattr(wheels, "MAX_BUNDLE_BYTES", 1000)
        index.add(wheel("thing", files={"thing.py": "#" * 1001}))

        assert "more than 1,000 bytes unpacked" in refusal("thing")

    def test_a_cache_that_cannot_be_written(self, index, thing, monkeypatch):
        """It says where, and what to do."""
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc/1/nowhere")

        assert "cannot be kept below /proc/1/nowhere" in refusal(thing)

    def test_at_construction(self, index):
        """Opening a session is where the caller is told."""
        with pytest.raises(PackageError, match="has no package missing-one"):
            open_session(packages=["missing-one"])

    def test_a_python_without_pip(self, tmp_path, index, thing):
        """Python's own copy of pip steps in."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
        python = tmp_path / "v" / ("Scripts" if os.name == "nt" else "bin") / "python"

        done = subprocess.run(
            [python, "-P", pip_for_sandbox.__file__, "--version"],
            capture_output=True,
            text=True,
            check=False,
        )

        assert (done.returncode, done.stdout.split()[:1]) == (0, ["pip"]), done.stderr


class TestCache:
    """What lies in the cache is what was resolved, or it is not used."""

    @pytest.mark.parametrize("pattern", ["*.whl", "packages.bundle"])
    def test_a_damaged_file_is_found(self, resolved, pattern):
        """By its hash, in the next process; a refresh repairs it."""
        found = packages.resolve([resolved])
        [file] = found.folder.glob(pattern)
        data = file.read_bytes()
        file.write_bytes(data[:-1] + b"!")
        package_sets.load.cache_clear()

        said = refusal(resolved)

        assert f"{file} is damaged: its hash does not match" in said
        assert "python -m sandbox_runtime packages --refresh" in said
        assert packages.resolve([resolved], refresh=True) == found
        assert file.read_bytes() == data

    @pytest.mark.parametrize("pattern", ["request-*.json", "set-*/manifest.json"])
    def test_a_damaged_note_is_found(self, resolved, pattern):
        """And named."""
        packages.resolve([resolved])
        [file] = package_sets.cache_folder().glob(pattern)
        file.write_text("[]")
        package_sets.load.cache_clear()

        assert str(file.parent) in refusal(resolved)
        assert names(packages.resolve([resolved], refresh=True)) == [resolved]

    def test_a_set_that_was_removed_is_fetched_again(self, resolved):
        """Whoever frees the space need not know which files belong together."""
        found = packages.resolve([resolved])
        shutil.rmtree(found.folder)
        package_sets.load.cache_clear()

        with pytest.raises(PackageError, match="is gone"):
            open_session(packages=found)
        assert packages.resolve([resolved]) == found
        assert found.bundle.is_file()

    def test_a_file_that_changes_in_a_running_process_is_found(self, resolved):
        """Its size is compared at every start."""
        found = resolve_packages([resolved])
        found.bundle.write_bytes(b"short")

        with pytest.raises(PackageError, match="its size has changed"):
            open_session(packages=found)

    def test_a_damaged_image_is_made_again(self, resolved, opened):
        """That needs no network."""
        found = resolve_packages([resolved])
        [image] = found.folder.glob("*.image")
        image.write_bytes(b"damaged")
        forget_images()

        session = opened(packages=found)

        assert session.run_cell("import sys; 'thing' in sys.modules") == Completed("True\n")


class TestPyodidesDistribution:
    """The further source: a folder of files, with the hashes that came with Pyodide."""

    @pytest.fixture
    def distribution(self, index, tmp_path, wheel):
        """A distribution with one package that needs another, and a shared library."""
        folder = index.folder / "full"
        folder.mkdir()
        tag = f"cp314-cp314-{pip_for_sandbox.PLATFORM}"
        listed = {}
        for name, requires in (("fast", ["other"]), ("other", [])):
            path = wheel(name, "3.0", *requires, tag=tag).rename(folder / f"{name}-3.0-{tag}.whl")
            listed[name] = {"version": "3.0", "file_name": path.name, "sha256": sha256(path)}
        library = folder / "libthing-1.0.zip"
        with zipfile.ZipFile(library, "w") as archive:
            archive.writestr("libthing.so", "a library")
        listed["libthing"] = {
            "version": "1.0",
            "file_name": library.name,
            "sha256": sha256(library),
            "package_type": "shared_library",
        }
        for name, depends in (("fast", ["other"]), ("other", ["libthing"]), ("libthing", [])):
            listed[name]["depends"] = depends
        lock = assets.cache_folder() / assets.LOCK_FILE
        lock.unlink()
        lock.write_text(json.dumps({"packages": listed}))
        return folder, f"{index.url}full"

    def test_it_has_what_the_index_has_not(self, distribution, index, thing, opened, monkeypatch):
        """Both sources together, and the shared libraries that pip knows nothing of."""
        monkeypatch.setenv(DISTRIBUTION_VARIABLE, distribution[1])

        session = opened(packages=["fast", thing])

        assert session.run_cell("import fast, other, thing; fast.VERSION") == Completed("'3.0'\n")
        assert session.run_cell("open('/usr/lib/libthing.so').read()") == Completed("'a library'\n")

    @pytest.mark.parametrize("pattern", ["fast-*.whl", "libthing-*.zip"])
    def test_its_files_are_held_to_the_lock_file(self, distribution, pattern):
        """Whoever serves them."""
        folder, url = distribution
        [file] = folder.glob(pattern)
        file.write_bytes(file.read_bytes() + b"more")

        said = refusal("fast", distribution=url)

        assert "hash" in said.lower()

    def test_a_download_that_breaks_off(self, tmp_path):
        """Is refused like every other that fails."""

        class Broken(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"half")

            def log_message(self, *args):
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Broken) as server:
            thread = threading.Thread(target=server.handle_request)
            thread.start()
            with pytest.raises(PackageError, match="cannot be fetched: IncompleteRead"):
                fetch(f"http://127.0.0.1:{server.server_port}/lib.zip", "0" * 64, tmp_path)
            thread.join()

    def test_it_is_not_asked_without_need(self, distribution, index, thing):
        """What the index has comes from the index."""
        packages.resolve([thing], distribution=distribution[1])

        assert not [path for path in index.requests if path.startswith("/full")]


class TestBundle:
    """Wheels as one file."""

    def test_only_modules_and_their_data(self, wheel, tmp_path):
        """What an installer would put elsewhere is left out, except for the libraries."""
        path = wheel(
            "thing",
            files={
                "thing.py": "x",
                "thing-1.0.data/purelib/more.py": "yy",
                "thing-1.0.data/scripts/run": "zzz",
                "_hidden/__init__.py": "",
                "native.cpython-314-wasm32-emscripten.so": "",
                "space/inner.py": "",
            },
        )

        target = tmp_path / "bundle"
        assert wheels.write_bundle(target, [path]) == (target.stat().st_size, sha256(target))
        made = target.read_bytes()
        size = int.from_bytes(made[:4], "little")
        index = dict(json.loads(made[4 : 4 + size]))

        assert index["/packages/thing.py"] == 1
        assert index["/packages/more.py"] == 2
        assert not [name for name in index if "scripts" in name]
        assert len(made) == 4 + size + sum(index.values())
        assert wheels.top_level_modules(path) == ["more", "native", "thing"]

    def test_a_file_that_is_no_archive(self, tmp_path):
        """It is named."""
        path = tmp_path / "thing-1.0-py3-none-any.whl"
        path.write_bytes(b"no archive")

        with pytest.raises(ValueError, match=r"thing-1\.0-py3-none-any\.whl cannot be unpacked"):
            wheels.write_bundle(tmp_path / "bundle", [path])


class TestSession:
    """Packages in a session."""

    def test_they_are_there_before_the_first_cell(self, resolved, opened):
        """Imported, with what their metadata says, and without a name in the namespace."""
        session = opened(packages=[resolved])

        assert session.run_cell("import sys; 'thing' in sys.modules") == Completed("True\n")
        assert session.run_cell("'thing' in globals()") == Completed("False\n")
        assert session.run_cell(
            "import thing, importlib.metadata as m; thing.__file__, m.version('thing')"
        ) == Completed("('/packages/thing/__init__.py', '1.0')\n")

    def test_without_them_nothing_is_mounted(self, opened):
        """A session has what it was opened with."""
        result = opened().run_cell("import os, sys; os.path.exists('/packages'), sys.path[-1]")

        assert isinstance(result, Completed)
        assert "/packages" not in result.output
        assert "False" in result.output

    def test_cells_cannot_change_them(self, resolved, opened):
        """Whatever they try, and whatever they make of a file's mode."""
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

    def test_a_state_belongs_to_its_packages(self, resolved, opened):
        """A session with others cannot go on from it."""
        with opened(packages=[resolved]) as session:
            session.run_cell("import thing")
            state = session.checkpoint()

        with pytest.raises(CheckpointError, match="Open the session with the same `packages`"):
            opened(restore=state)
        restored = opened(packages=[resolved], restore=state)
        assert restored.run_cell("thing.VERSION") == Completed("'1.0'\n")

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
        """The packages are imported when they are asked for."""
        found = resolve_packages([resolved])

        assert with_packages(ready_engine(), found).packages.image is not None
        assert with_packages(ready_engine(), found, 1024).packages.image is None

    def test_one_that_cannot_be_imported(self, index, wheel, opened):
        """The session opens; the cell that imports it is told."""
        index.add(wheel("thing", files={"thing.py": "import socketserver_", "fine.py": "x = 1"}))

        session = opened(packages=["thing"])

        assert session.run_cell("import fine; fine.x") == Completed("1\n")
        failed = session.run_cell("import thing")
        assert isinstance(failed, Failed)
        assert failed.error_type == "ModuleNotFoundError"

    def test_what_fails_once_is_tried_again(self, thing, opened, monkeypatch):
        """The packages are there without an image, and the next time with one."""

        class Failing(Session):
            def __init__(self, engine, *args, **kwargs):
                if engine.packages.image is not None:
                    raise SandboxStartError("no memory was left")
                super().__init__(engine, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(install, "Session", Failing)
            found = resolve_packages([thing])
        assert not [*found.folder.glob("*.image"), *found.folder.glob("*.none")]
        assert opened(packages=found).run_cell("import thing; thing.VERSION") == Completed(
            "'1.0'\n"
        )
        assert [*found.folder.glob("*.image")]

    def test_a_refresh_tries_again_to_make_an_image(self, resolved):
        """Also where it is remembered that there can be none."""
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

    def test_one_that_ends_the_process(self, index, wheel, opened):
        """No image is made, and not tried again; the file that says so has the reason."""
        index.add(wheel("thing", files={"thing.py": "import os; os.abort()", "fine.py": "x = 1"}))

        found = resolve_packages(["thing"])
        session = opened(packages=found)

        assert session.run_cell("import fine; fine.x") == Completed("1\n")
        [note] = found.folder.glob("*.none")
        assert "The sandbox ended when it imported thing" in note.read_text()

    def test_a_compiled_module_that_cannot_be_loaded(self, index, wheel, opened, tmp_path):
        """Its import fails; images can be taken all the same."""
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
        """What a cell does to an imported package ends with its session."""
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

        said = capsys.readouterr().out
        assert "to mount, in" in said
        assert "  thing 1.0  thing-1.0-py3-none-any.whl" in said

    def test_a_refusal_is_one_line(self, index, capsys):
        """And the exit code tells."""
        assert __main__.main(["packages", "missing-one"]) == 1

        assert "FAILED" in capsys.readouterr().out


def told(**changes) -> dict:
    """One package as pip reports it; `changes` by the path of a field, with `__` between its parts."""
    item = {
        "metadata": {"name": "thing", "version": "1.0", "requires_dist": ["other>=1"]},
        "download_info": {
            "url": "https://index.invalid/thing-1.0-py3-none-any.whl",
            "archive_info": {"hashes": {"sha256": "0" * 64}},
        },
        "requested": True,
        "is_direct": False,
    }
    for path, value in changes.items():
        *folders, last = path.split("__")
        place = item
        for folder in folders:
            place = place[folder]
        place[last] = value
    return item


def as_report(*items: object, **more: object) -> bytes:
    body = {"environment": {"sys_platform": "emscripten"}, "install": list(items), **more}
    return json.dumps(body).encode()


class TestReport:
    """pip's report is the words of strangers: what has not its form ends the request."""

    def test_an_honest_one(self):
        """Every field that is used later."""
        [found] = read_report(as_report(told()))

        assert (found.name, found.version, found.sha256) == ("thing", "1.0", "0" * 64)
        assert found.file == "thing-1.0-py3-none-any.whl"
        assert (found.requested, found.direct, found.requires) == (True, False, ("other>=1",))

    @pytest.mark.parametrize(
        "changes",
        [
            {"metadata": []},
            {"metadata__name": 7},
            {"metadata__name": ""},
            {"metadata__name": "thing\n--index-url=http://evil.invalid"},
            {"metadata__name": "thing @ https://evil.invalid/x.whl #"},
            {"metadata__name": "../thing"},
            {"metadata__name": "t" * 5_000},
            {"metadata__version": "1.0\n-e ."},
            {"metadata__version": "1.0 --hash=sha256:1"},
            {"metadata__version": "2.0"},
            {"metadata__version": None},
            {"metadata__requires_dist": "other"},
            {"metadata__requires_dist": [7]},
            {"metadata__requires_dist": ["x" * 5_000]},
            {"download_info": None},
            {"download_info__url": "https://index.invalid/thing-1.0.tar.gz"},
            {"download_info__url": "https://index.invalid/other-1.0-py3-none-any.whl"},
            {"download_info__url": "git+https://index.invalid/thing-1.0-py3-none-any.whl"},
            {"download_info__url": "ftp://index.invalid/thing-1.0-py3-none-any.whl"},
            {"download_info__url": "https://index.invalid/ -e/thing-1.0-py3-none-any.whl"},
            {"download_info__url": "https://index.invalid/x\nthing-1.0-py3-none-any.whl"},
            {"download_info__url": "https://index.invalid/a/..%2fthing-1.0-py3-none-any.whl"},
            {"download_info__url": "https://index.invalid/..%252fthing-1.0-py3-none-any.whl"},
            {"download_info__url": "https://[index/thing-1.0-py3-none-any.whl"},
            {"download_info__url": f"https://i.invalid/thing-1.0-{'py3.' * 900}py3-none-any.whl"},
            {"download_info__archive_info": None},
            {"download_info__archive_info__hashes": {"md5": "0"}},
            {"download_info__archive_info__hashes": {"sha256": "0" * 63}},
            {"download_info__archive_info__hashes": {"sha256": ["0" * 64]}},
            {"download_info__archive_info__hashes": {"sha256": "0" * 63 + "\n"}},
            {"requested": "yes"},
            {"is_direct": 1},
        ],
    )
    def test_a_field_that_has_not_its_form(self, changes):
        """Nothing of it reaches a file of requirements, a path, or the next command of pip."""
        if changes == {
            "download_info__url": "https://index.invalid/a/..%2fthing-1.0-py3-none-any.whl"
        }:
            [found] = read_report(as_report(told(**changes)))
            assert found.file == "thing-1.0-py3-none-any.whl"  # the last part, and no other
            return
        with pytest.raises(PackageError) as caught:
            read_report(as_report(told(**changes)))

        assert len(str(caught.value)) < 1_000

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xff\xfe\x00",
            b"null",
            b"[]",
            b'"' * 3,
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"1" * 10_000,
            b'{"environment": {"sys_platform": "emscripten"}}',
            b'{"environment": {"sys_platform": "emscripten"}, "install": {}}',
            b'{"environment": {"sys_platform": "emscripten"}, "install": [[]]}',
            b'{"environment": {"sys_platform": "linux"}, "install": []}',
            b'{"environment": 3, "install": []}',
            as_report(told(), told()),
            as_report(told(), told(metadata__name="Thing")),
            as_report(*[{}] * 2_001),
            b" " * (MAX_REPORT_BYTES + 1),
        ],
        ids=range(17),
    )
    def test_what_is_no_report(self, data):
        """Always the one error, whatever the bytes, and never another."""
        with pytest.raises(PackageError):
            read_report(data)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(
                        ["metadata", "name", "version", "download_info", "url", "archive_info"]
                    )
                    | st.text(),
                    inner,
                )
            ),
            max_leaves=20,
        )
    )
    def test_any_json_at_all(self, value):
        """It is read, or refused in words."""
        for data in (json.dumps(value).encode(), as_report(value)):
            try:
                found = read_report(data)
            except PackageError:
                continue
            assert found == []

    def test_only_what_was_named_comes_from_an_address(self):
        """The second look: pip itself should have refused it."""
        [found] = read_report(as_report(told(is_direct=True)))

        own = found.url.replace("://", "://me:password@") + "#sha256=1"
        assert [one.url for one in as_named([found], [own])] == [own]
        with pytest.raises(PackageError, match="not among the addresses in packages"):
            as_named([found], ["https://elsewhere.invalid/thing-1.0-py3-none-any.whl"])

    def test_reading_takes_time_in_proportion(self):
        """Four times the packages take about four times the work, not sixteen times."""

        def work(count: int) -> float:
            names = [f"thing{number}" for number in range(count)]
            data = as_report(
                *(
                    told(
                        metadata__name=name,
                        download_info__url=f"https://i.invalid/{name}-1.0-py3-none-any.whl",
                        metadata__requires_dist=["x" * 1_000] * 20,
                    )
                    for name in names
                )
            )
            start = time.process_time()
            read_report(data)
            return time.process_time() - start

        few, many = min(work(400) for _ in range(3)), min(work(1_600) for _ in range(3))
        assert many < 10 * few + 0.1


class TestLog:
    """pip's log repeats what pages and packages say; it is read in one pass."""

    @pytest.mark.parametrize(
        "line",
        [
            "Skipping link: " + ": " * 500_000,
            "Skipping link: x: " + "/" * 1_000_000,
            "requirement thing" * 100_000,
            "ERROR: " + "<a object at 0x" * 100_000,
            "Error" * 200_000,
            "connection broken by " * 50_000,
        ],
        ids=range(6),
    )
    def test_a_long_line_costs_little(self, line):
        """Once for each character, at most."""
        start = time.process_time()
        explain(f"{line}\n" * 4, "thing")
        last_words(f"{line}\n" * 4)

        assert time.process_time() - start < 5

    def test_what_comes_out_is_printable(self):
        """No sequence for the terminal, and no new line."""
        said = last_words("ERROR: \x1b]0;pwned\x07\u202e\u2028end")

        assert said.isprintable()
        assert "\\x1b]0;pwned" in said


class TestLockFile:
    """A file with hashes in the place of names: what has another hash is not used."""

    @pytest.fixture
    def locked(self, index, wheel, tmp_path):
        """Two packages in the index, one of which needs the other, and a lock file for them."""
        digests = {
            "thing": sha256(index.add(wheel("thing", "1.0", "inner>=1"))),
            "inner": sha256(index.add(wheel("inner"))),
        }
        index.add(wheel("thing", "2.0"))

        def write(name: str = "requirements.txt", **hashes: str) -> Path:
            path = tmp_path / name
            known = {**digests, **hashes}
            if name.endswith(".toml"):
                path.write_text(
                    'lock-version = "1.0"\ncreated-by = "test"\n'
                    + "".join(
                        f'[[packages]]\nname = "{one}"\nversion = "1.0"\n'
                        f'wheels = [{{name = "{one}-1.0-py3-none-any.whl", '
                        f'url = "https://i.invalid/{one}-1.0-py3-none-any.whl", '
                        f'hashes = {{sha256 = "{digest}"}}}}]\n'
                        for one, digest in known.items()
                    )
                    + '[[packages]]\nname = "windows"\nversion = "1.0"\n'
                    'marker = "sys_platform == \'win32\'"\nvcs = {type = "git", '
                    'url = "https://i.invalid/w", commit-id = "1"}\n'
                )
            else:
                path.write_text(
                    "# made by hand\n"
                    + "".join(
                        f"{one}==1.0 \\\n    --hash=sha256:{'1' * 64} \\\n"
                        f"    --hash=sha256:{digest}\n    # via nothing\n"
                        for one, digest in known.items()
                    )
                    + "windows==1.0 ; sys_platform == 'win32'\n"
                )
            return path

        return write

    @pytest.mark.parametrize("name", ["requirements.txt", "pylock.toml", "pylock.sandbox.toml"])
    def test_its_versions_are_taken(self, locked, name):
        """Not the newest; and what others need is mounted, not imported."""
        found = packages.resolve(locked(name))

        assert str(found) in ("inner 1.0, thing 1.0", "thing 1.0, inner 1.0")
        assert found.imports == ("thing",)

    @pytest.mark.parametrize("name", ["requirements.txt", "pylock.toml"])
    @pytest.mark.parametrize("changed", ["thing", "inner"])
    def test_a_file_with_another_hash_is_refused(self, locked, name, changed):
        """Whatever the index says of it."""
        said = refusal_of(locked(name, **{changed: "2" * 64}))

        assert "HASH" in said.upper()
        assert not [*package_sets.cache_folder().glob("set-*")]

    def test_it_is_remembered_by_what_it_says(self, locked, index):
        """Another hash is another request; the same ones need no network."""
        path = locked()
        found = packages.resolve(path)
        asked = len(index.requests)

        assert packages.resolve(path) == found
        assert len(index.requests) == asked
        assert "HASH" in refusal_of(locked(thing="2" * 64)).upper()

    def test_a_dependency_that_is_not_in_it(self, locked, tmp_path):
        """All or nothing: pip must not choose what nobody has locked."""
        lines = locked().read_text().split("inner==1.0")[0]
        path = tmp_path / "short.txt"
        path.write_text(lines)

        assert "inner" in refusal_of(path)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("thing==1.0\n", "has no hash for thing"),
            (f"thing>=1.0 --hash=sha256:{'0' * 64}\n", "does not fix the version"),
            (f"thing==1.* --hash=sha256:{'0' * 64}\n", "does not fix the version"),
            ("thing==1.0 --hash=md5:0\n", "need one of sha256"),
            (f"thing==1.0 --hash=sha256:{'0' * 63}\n", "need one of sha256"),
            ("thing==1.0 --hash\n", "need one of sha256"),
            (f"thing==1.0 --config-settings=a --hash=sha256:{'0' * 64}\n", "beside hashes"),
            ("--index-url https://evil.invalid/\n", "has the option '--index-url'"),
            ("-r other.txt\n", "has the option '-r'"),
            ("-e .\n", "has the option '-e'"),
            (f"x @ https://i.invalid/x.tar.gz --hash=sha256:{'0' * 64}\n", "else than a wheel"),
            (f"x @ git+https://i.invalid/x.whl --hash=sha256:{'0' * 64}\n", "else than a wheel"),
            ("two words\n", "not a requirement"),
            ("x; " + "(" * 10_000 + "\n", "not a requirement"),
            ("# nothing\n", "has no package for the sandbox"),
            ("\xff", "not a requirement"),
        ],
    )
    def test_one_that_does_not_fix_everything(self, text, reason):
        """The line is named, and why."""
        with pytest.raises(PackageError, match=re.escape(reason)):
            read_lock("requirements.txt", text.encode())

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("[", "is no TOML"),
            ("a = 1", "is no lock file of PEP 751"),
            ("a = " + "[" * 20_000, "is no TOML"),
            ('lock-version = "9.0"\ncreated-by = "x"\npackages = []', "is no lock file of PEP 751"),
            (
                'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "x"\nversion = "1"\n'
                'sdist = {name = "x-1.tar.gz", url = "https://i.invalid/x-1.tar.gz", '
                'hashes = {sha256 = "0"}}',
                "has no wheel",
            ),
            (
                'lock-version = "1.0"\ncreated-by = "x"\n[[packages]]\nname = "x"\n'
                'directory = {path = "."}',
                "has no wheel",
            ),
        ],
        ids=range(6),
    )
    def test_a_pylock_that_cannot_be_used(self, text, reason):
        """Likewise."""
        with pytest.raises(PackageError, match=re.escape(reason)):
            read_lock("pylock.toml", text.encode())

    @pytest.mark.parametrize("data", [b"\xff\xfe", b" " * (MAX_LOCK_BYTES + 1)], ids=["0", "1"])
    @pytest.mark.parametrize("name", ["requirements.txt", "pylock.toml"])
    def test_what_is_no_text(self, name, data):
        """Or too long."""
        with pytest.raises(PackageError):
            read_lock(name, data)

    def test_one_that_is_not_there(self, tmp_path):
        """The path is in the message."""
        assert "gone.txt" in refusal_of(tmp_path / "gone.txt")

    def test_the_command_writes_one_that_it_takes(self, thing, index, wheel, tmp_path, capsys):
        """From names to a lock file and back is the same set of files."""
        mine = wheel("mine").as_uri()
        lock = tmp_path / "lock.txt"

        assert __main__.main(["packages", thing, f"mine @ {mine}", "--write-lock", str(lock)]) == 0
        index.add(wheel("thing", "2.0"))
        assert __main__.main(["packages", "--locked", str(lock)]) == 0

        said = capsys.readouterr().out
        assert said.count("thing 1.0  thing-1.0-py3-none-any.whl") == 2
        assert f"mine @ {mine}" in lock.read_text()

    def test_names_or_a_file(self, capsys):
        """Not both, and not neither."""
        for arguments in (["packages"], ["packages", "x", "--locked", "y"]):
            with pytest.raises(SystemExit):
                __main__.main(arguments)

    def test_everywhere_that_packages_are_taken(self, locked, opened):
        """By sessions and by pools; a text is a name and no path."""
        path = locked()

        assert opened(packages=path).run_cell("import thing; thing.VERSION") == Completed("'1.0'\n")
        pool = Pool(packages=path)
        try:
            assert pool.packages == packages.resolve(path)
        finally:
            pool.close()
        with pytest.raises(PackageError, match="packages is a list of names"):
            open_session(packages=str(path))


class TestBombs:
    """A wheel is no larger inside than its bounds, and nothing of it is held that need not be."""

    def test_one_that_expands_beyond_measure_is_not_unpacked(self, wheel, tmp_path, monkeypatch):
        """More than two hundred times its size, unless it is small."""
        path = wheel("thing", files={"thing.py": "#" * 5_000_000})

        assert wheels.write_bundle(tmp_path / "bundle", [path])[0] > 5_000_000
        monkeypatch.setattr(wheels, "SMALL_BYTES", 1_000_000)
        with pytest.raises(ValueError, match="more than 200 times its own"):
            wheels.write_bundle(tmp_path / "bundle", [path])

    def test_one_that_says_less_than_it_holds(self, wheel, tmp_path):
        """The length that an archive tells is held to."""
        path = wheel("thing", files={"thing.py": "#" * 1_000})
        data = path.read_bytes()
        told_length, other = (1_000).to_bytes(4, "little"), (10).to_bytes(4, "little")
        assert told_length in data
        path.write_bytes(data.replace(told_length, other))

        with pytest.raises(ValueError, match=r"cannot be unpacked|not as long"):
            wheels.write_bundle(tmp_path / "bundle", [path])

    @pytest.mark.parametrize("comment", [b"", b"x" * 1_000])
    def test_too_many_files(self, tmp_path, comment):
        """Told by the archive's end, before its list is read."""
        path = tmp_path / "thing-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(wheels.MAX_FILES + 2):
                archive.writestr(f"{number}", "")
            archive.comment = comment

        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="lists more than 65,535 files"):
                wheels.top_level_modules(path)
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()

    def test_a_long_list_of_files(self, tmp_path):
        """Its bytes count, not what it says of their number."""
        path = tmp_path / "thing-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for number in range(300):
                archive.writestr(f"{number}{'x' * 60_000}", "")

        with pytest.raises(ValueError, match="in more than 16,777,216 bytes"):
            wheels.metadata_of(path)

    def test_a_bundle_is_never_in_memory(self, tmp_path):
        """Whatever it takes on disk: a piece at a time."""
        path = tmp_path / "thing-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for number in range(10):
                archive.writestr(f"{number}", os.urandom(10_000_000))

        tracemalloc.start()
        try:
            assert wheels.write_bundle(tmp_path / "bundle", [path])[0] > 100_000_000
            assert tracemalloc.get_traced_memory()[1] < 20_000_000
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize(
        ("says", "reason"),
        [
            ("Name: other\n", "says it twice"),
            ("x" * 9_000_000, "bytes of metadata"),
        ],
        ids=["twice", "long"],
    )
    def test_metadata_that_is_not_sound(self, wheel, says, reason):
        """A wheel says what it is, once and shortly."""
        with pytest.raises(ValueError, match=reason):
            wheels.metadata_of(wheel("thing", says=says))

    def test_too_many_modules_at_the_top(self, wheel):
        """Each would be imported and named to the LM."""
        path = wheel("thing", files={f"m{number}.py": "" for number in range(1_001)})

        with pytest.raises(ValueError, match="puts 1,001 modules at the top"):
            wheels.top_level_modules(path)

    @pytest.mark.parametrize("cut", [0, 1, 30, 500])
    def test_a_damaged_archive(self, wheel, cut, tmp_path):
        """One error, in words."""
        path = wheel("thing")
        data = path.read_bytes()
        path.write_bytes(data[:cut] + data[cut + 3 :] if cut else b"")

        with pytest.raises(ValueError, match=re.escape(path.name)):
            wheels.write_bundle(tmp_path / "bundle", [path])


def refusal_of(path: Path) -> str:
    with pytest.raises(PackageError) as caught:
        packages.resolve(path)
    return str(caught.value)
