"""Packages for the sandbox: resolution, refusals with their reasons, and the result in cells.

`TestFromTheRegistry` asks the real package index. The rest has one of its own, served over HTTP, whose
wheels are made here.
"""

from __future__ import annotations

import base64
import dataclasses
import http.server
import json
import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from cells import PROJECT
from package_index import CLOSED, serving, sha256
from resolving import forget_images, names, refusal

from sandbox_runtime import (
    Completed,
    Failed,
    Limits,
    PackageError,
    PackageSet,
    Session,
    open_session,
    resolve_packages,
)
from sandbox_runtime.engine import assets
from sandbox_runtime.installation.package_images import with_packages
from sandbox_runtime.open import ready_engine
from sandbox_runtime.packages import pip_shim as pip_for_sandbox
from sandbox_runtime.packages import resolve as packages
from sandbox_runtime.packages import store as package_sets
from sandbox_runtime.packages import wheels
from sandbox_runtime.packages.pyodide_index import DISTRIBUTION_VARIABLE, fetch


@pytest.fixture(scope="module")
def found() -> PackageSet:
    """Resolves the issue's example afresh, in the cache of the user who runs the tests."""
    return resolve_packages(["pydantic", "networkx"], refresh=True)


class TestFromTheRegistry:
    """The issue's own example, from the index that pip is configured for."""

    @pytest.mark.nightly  # needs a registry
    def test_a_compiled_package_comes_as_a_wheel_for_webassembly(self, found):
        """The hash of each file is the reported one."""
        files = {package.name.replace("_", "-"): package for package in found.packages}

        assert {"pydantic", "pydantic-core", "networkx", "typing-extensions"} <= files.keys()
        assert files["pydantic-core"].file.endswith(f"-{pip_for_sandbox.PLATFORM}.whl")
        assert files["networkx"].file.endswith("-none-any.whl")
        assert found.imports == ("networkx", "pydantic")
        for package in found.packages:
            assert sha256(found.folder / package.file) == package.sha256

    @pytest.mark.nightly  # needs a registry
    def test_cells_use_both(self, found, opened):
        """Cells use both packages without a network; they are imported before the first cell."""
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
        """An image taken in mid-session continues, and so does one taken from there: the modules keep their addresses."""
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
        """The message names both sources, and the reason why neither serves."""
        message = refusal("uvloop")

        assert "uvloop has no wheel for WebAssembly" in message
        assert "manylinux" in message
        assert "Pyodide's own distribution does not have it either." in message

    @pytest.mark.nightly
    def test_one_that_nobody_has(self):
        """The message distinguishes an unknown package from one without a suitable wheel."""
        assert "has no package no-such-package-0123456789" in refusal("no-such-package-0123456789")


class TestResolve:
    """The resolution of a list of requirements."""

    def test_dependencies_are_the_sandboxs(self, index, wheel):
        """Markers are evaluated for the sandbox, not for the machine that resolves."""
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
        """The markers passed to pip equal the sandbox's own values."""
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
        """The cache serves other orders and spellings too, and ignores newer versions."""
        found = packages.resolve([thing])
        request_count = len(index.requests)
        monkeypatch.setenv("PIP_INDEX_URL", CLOSED)
        package_sets.load.cache_clear()

        assert packages.resolve(["thing", " thing"]) == found
        assert len(index.requests) == request_count

    def test_a_refresh_asks_again(self, index, thing, wheel):
        """A refresh leaves the previous set in place for the sessions that use it."""
        old = packages.resolve([thing])
        index.add(wheel("thing", "2.0"))

        assert packages.resolve([thing]).packages[0].version == "1.0"
        new = packages.resolve([thing], refresh=True)
        assert new.packages[0].version == "2.0"
        assert packages.resolve([thing]) == new
        assert old.bundle.stat().st_size == old.bundle_bytes

    def test_a_set_is_a_key(self, thing):
        """Equal sets compare equal and have the same hash."""
        assert {packages.resolve([thing]): 1}[packages.resolve([thing])] == 1

    def test_a_wheel_of_the_users_own(self, index, wheel):
        """A requirement can name a wheel by its URL, in pip's syntax."""
        path = wheel("mine")

        found = packages.resolve([f"mine @ {path.as_uri()}"])

        assert names(found) == ["mine"]

    @pytest.mark.nightly  # `test_pip_guard.py` has the passwords
    def test_a_wheel_behind_a_password(self, index, wheel, cache, tmp_path):
        """The URL is used as written, and the password is stored nowhere."""
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

        with serving(Private) as place:
            wheel = f"{place}/mine-1.0-py3-none-any.whl"
            found = packages.resolve([f"mine @ http://me:open-sesame@{wheel}"])
            message = refusal(f"mine @ http://me:wrong-sesame@{wheel}")

        assert str(found) == "mine 1.0"
        assert "sesame" not in message
        kept = [file for file in cache.rglob("*") if file.is_file() and file.stat().st_size < 10**6]
        assert not [file for file in kept if b"sesame" in file.read_bytes()]

    @pytest.mark.nightly  # three resolutions; the lock between processes is that of every cache folder
    def test_two_processes_at_once(self, index, thing, cache):
        """Both processes get the same set, and no partial folder remains."""
        command = [sys.executable, "-m", "sandbox_runtime", "packages", thing]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
        started = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        message = [process.communicate(timeout=100)[0] for process in started]

        assert [process.returncode for process in started] == [0, 0], message
        found = packages.resolve([thing])
        assert {path.name for path in package_sets.cache_folder().glob("*")} == {
            found.folder.name,
            *(path.name for path in package_sets.cache_folder().glob("request-*.json")),
        }
        assert len([*found.folder.glob("*.image")]) == 1
        assert not [*found.folder.glob("partial-*")]

    def test_what_a_killed_process_left_is_swept(self, index, thing):
        """The leftovers of a killed process are removed, as by the engine's installer."""
        with subprocess.Popen([sys.executable, "-c", ""]) as process:
            process.wait()
        left = package_sets.cache_folder() / f"partial-{process.pid}-work"
        left.mkdir(parents=True)

        packages.resolve([thing])

        assert not left.exists()


class TestRefused:
    """A package that cannot be used is refused with the reason."""

    @pytest.mark.parametrize(
        ("requirements", "reason"),
        [
            (["-r secrets.txt"], "is not a requirement that pip accepts"),
            (["--index-url=http://elsewhere"], "is not a requirement that pip accepts"),
            (["two words"], "is not a requirement that pip accepts"),
            ([""], "is not a requirement that pip accepts"),
            ([7], "is not a requirement that pip accepts"),
            (["mine @ git+https://example.invalid/mine"], "does not name a wheel"),
            (["mine @ https://example.invalid/mine.tar.gz"], "does not name a wheel"),
            (["./folder"], "is not a requirement that pip accepts"),
            ([], "names no package"),
            ("pydantic", 'write ["pydantic"]'),
        ],
    )
    def test_bad_requirements(self, requirements, reason):
        """No invalid requirement reaches pip's command line."""
        with pytest.raises(PackageError) as caught:
            packages.resolve(requirements)

        assert reason in str(caught.value)

    def test_nothing_is_left_for_the_sandbox(self, index):
        """Requirements whose markers exclude the sandbox are an error."""
        message = refusal('thing; sys_platform == "win32"')

        assert "the markers say that the sandbox needs none" in message

    def test_no_wheel_for_the_sandbox(self, index, wheel):
        """The message lists the platforms that have wheels."""
        index.add(wheel("fast", tag="cp314-cp314-manylinux_2_28_x86_64"))
        index.add(wheel("fast", tag="cp313-cp313-pyemscripten_2025_0_wasm32"))

        message = refusal("fast")

        assert "only for manylinux, pyemscripten_2025_0_wasm32" in message

    def test_only_source(self, index, tmp_path):
        """A source archive is refused: building it would execute its code on the host."""
        source = tmp_path / "fast-1.0.tar.gz"
        source.write_bytes(b"")
        index.add(source)

        assert "fast has no wheel at the package index, only its source." in refusal("fast")

    def test_no_such_version(self, thing):
        """The message lists the available versions."""
        message = refusal("thing>=2")

        assert "No version of thing fits; for the sandbox, these exist: 1.0." in message

    def test_of_many_versions_the_latest_are_listed(self, index, wheel):
        """The message lists the latest versions and counts the others."""
        for version in range(1, 12):
            index.add(wheel("thing", f"{version}.0"))

        message = refusal("thing>=99")

        assert "these exist: 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, and 3 older." in message

    def test_a_module_of_the_standard_library(self, index):
        """The message says that cells have it already."""
        assert "json is a part of Python's standard library" in refusal("json")

    def test_a_module_whose_package_has_another_name(self, index):
        """The message names the package of the module."""
        assert "the package of that module is called beautifulsoup4" in refusal("bs4")

    def test_a_constraint_does_not_hide_the_reason(self, index, wheel, tmp_path, monkeypatch):
        """pip calls it a conflict if its settings constrain the package; the reason is still the platform."""
        index.add(wheel("native", "1.0", tag="cp314-cp314-manylinux_2_28_x86_64"))
        constraints = tmp_path / "constraints.txt"
        constraints.write_text("native<=2")
        monkeypatch.setenv("PIP_CONSTRAINT", str(constraints))

        assert "native has no wheel for WebAssembly" in refusal("native")

    def test_a_dependency_is_missing(self, index, wheel):
        """The message names the missing dependency."""
        index.add(wheel("thing", "1.0", "missing-one>=3"))

        assert "has no package missing-one" in refusal("thing")

    def test_requirements_that_contradict_each_other(self, index, wheel):
        """The message quotes pip's explanation of the conflict."""
        index.add(wheel("left", "1.0", "thing<2"))
        index.add(wheel("right", "1.0", "thing>=2"))
        index.add(wheel("thing", "1.0"))
        index.add(wheel("thing", "2.0"))

        assert "conflicting dependencies" in refusal("left", "right")

    @pytest.mark.nightly  # waits for pip's retries
    def test_no_network(self, index, monkeypatch):
        """If both sources are unreachable, the message names both."""
        monkeypatch.setenv("PIP_INDEX_URL", CLOSED)

        message = refusal("numpy")

        assert "numpy cannot be looked up, the package index is out of reach" in message
        assert (
            "Pyodide's own distribution has numpy 2.4.6, but it cannot be fetched from" in message
        )
        assert message.count("refused") == 2

    def test_a_file_that_is_not_what_the_index_says(self, index, wheel):
        """A file with a wrong hash is not used."""
        index.add(wheel("thing"), digest="0" * 64)

        message = refusal("thing")

        assert "HASH" in message.upper()
        assert not [*package_sets.cache_folder().glob("set-*")]

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize(
        "place", ["../outside.py", "/etc/passwd", "thing/../../outside.py", "a\\b.py"]
    )
    def test_a_wheel_that_reaches_out(self, index, wheel, place):
        """A file's name cannot lead out of the folder of packages."""
        index.add(wheel("thing", files={place: ""}))

        assert "outside of its folder" in refusal("thing")

    def test_a_wheel_that_expands_beyond_measure(self, index, wheel, monkeypatch):
        """A zip bomb is refused before it is unpacked."""
        monkeypatch.setattr(wheels, "MAX_BUNDLE_BYTES", 1000)
        index.add(wheel("thing", files={"thing.py": "#" * 1001}))

        assert "more than 1,000 bytes unpacked" in refusal("thing")

    def test_a_cache_that_cannot_be_written(self, index, thing, monkeypatch):
        """The message names the folder and the remedy."""
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc/1/nowhere")

        assert "cannot be kept below /proc/1/nowhere" in refusal(thing)

    def test_at_construction(self, index):
        """The error is raised when the session is opened."""
        with pytest.raises(PackageError, match="has no package missing-one"):
            open_session(packages=["missing-one"])

    @pytest.mark.nightly  # no user's resolution: pip from a zip file takes a second
    def test_a_python_without_pip(self, tmp_path, index, thing):
        """Without pip, the copy bundled with Python is used."""
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
    """A damaged file in the cache is never used."""

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("pattern", ["*.whl", "packages.bundle"])
    def test_a_damaged_file_is_found(self, resolved, pattern):
        """The next process detects it by its hash; a refresh repairs it."""
        found = packages.resolve([resolved])
        [file] = found.folder.glob(pattern)
        data = file.read_bytes()
        file.write_bytes(data[:-1] + b"!")
        package_sets.load.cache_clear()

        message = refusal(resolved)

        assert f"{file} is damaged: its hash does not match" in message
        assert "python -m sandbox_runtime packages --refresh" in message
        assert packages.resolve([resolved], refresh=True) == found
        assert file.read_bytes() == data

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("pattern", ["request-*.json", "set-*/manifest.json"])
    def test_a_damaged_note_is_found(self, resolved, pattern):
        """The error names the damaged index entry."""
        packages.resolve([resolved])
        [file] = package_sets.cache_folder().glob(pattern)
        file.write_text("[]")
        package_sets.load.cache_clear()

        assert str(file.parent) in refusal(resolved)
        assert names(packages.resolve([resolved], refresh=True)) == [resolved]

    @pytest.mark.nightly  # makes an image twice
    def test_a_set_that_was_removed_is_fetched_again(self, resolved):
        """A user who frees space need not know which files belong together."""
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

    @pytest.mark.nightly  # makes an image twice
    def test_a_damaged_image_is_made_again(self, resolved, opened):
        """Rebuilding a damaged image needs no network."""
        found = resolve_packages([resolved])
        [image] = found.folder.glob("*.image")
        image.write_bytes(b"damaged")
        forget_images()

        session = opened(packages=found)

        assert session.run_cell("import sys; 'thing' in sys.modules") == Completed("True\n")


class TestPyodidesDistribution:
    """The further source: a folder of files, with the hashes from Pyodide's lock file."""

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

    @pytest.mark.nightly  # downloads from Pyodide's distribution
    def test_it_has_what_the_index_has_not(self, distribution, index, thing, opened, monkeypatch):
        """Both sources are combined, and the shared libraries that pip does not know are fetched."""
        monkeypatch.setenv(DISTRIBUTION_VARIABLE, distribution[1])

        session = opened(packages=["fast", thing])

        assert session.run_cell("import fast, other, thing; fast.VERSION") == Completed("'3.0'\n")
        assert session.run_cell("open('/usr/lib/libthing.so').read()") == Completed("'a library'\n")

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("pattern", ["fast-*.whl", "libthing-*.zip"])
    def test_its_files_are_held_to_the_lock_file(self, distribution, pattern):
        """A file with another hash is refused, whoever serves it."""
        folder, url = distribution
        [file] = folder.glob(pattern)
        file.write_bytes(file.read_bytes() + b"more")

        message = refusal("fast", distribution=url)

        assert "hash" in message.lower()

    def test_a_lock_file_decides_about_its_files_too(self, distribution, index, tmp_path):
        """A wheel of the distribution with another hash than the user's lock file has is not used."""
        folder, url = distribution
        [own] = folder.glob("other-*.whl")
        good = tmp_path / "good.whl"
        shutil.copy(own, good)
        with zipfile.ZipFile(good, "a") as archive:
            archive.writestr("more.py", "")
        index.serve_in_turn(own, good.read_bytes(), own.read_bytes())
        lock = tmp_path / "requirements.txt"
        lock.write_text(f"other==3.0 --hash=sha256:{sha256(good)}\n")

        with pytest.raises(PackageError) as caught:
            packages.resolve(lock, distribution=url)

        assert "HASH" in str(caught.value).upper()

    def test_a_download_that_breaks_off(self, tmp_path):
        """An interrupted download is an error like any other failure."""

        class Broken(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"half")

        with (
            serving(Broken) as place,
            pytest.raises(PackageError, match="cannot be fetched: IncompleteRead"),
        ):
            fetch(f"http://{place}/lib.zip", "0" * 64, tmp_path)

    def test_it_is_not_asked_without_need(self, distribution, index, thing):
        """A package that the index has comes from the index."""
        packages.resolve([thing], distribution=distribution[1])

        assert not [path for path in index.requests if path.startswith("/full")]
