"""pip for the sandbox: no code of a package is executed, built or fetched by URL on the host.

Each hostile package comes over real HTTP, or from real files. What would run leaves a mark on disk.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cells import PROJECT
from package_index import PackageIndex, make_wheel, serving, sha256

from sandbox_runtime import PackageError
from sandbox_runtime.packages import pip_guard
from sandbox_runtime.packages import pip_shim as pip_for_sandbox
from sandbox_runtime.packages.pip import environment_for_pip
from sandbox_runtime.packages.resolve import resolve

BACKEND = """
import pathlib
pathlib.Path({mark!r}).write_text("the build backend was imported")
def get_requires_for_build_wheel(settings=None): return []
def get_requires_for_build_editable(settings=None): return []
def prepare_metadata_for_build_wheel(folder, settings=None): raise SystemExit(3)
def build_wheel(folder, settings=None, metadata=None): raise SystemExit(3)
"""


@pytest.fixture
def mark(tmp_path) -> Path:
    """A file that exists if code of a package has run on the host."""
    return tmp_path / "ran-on-the-host"


@pytest.fixture
def source(tmp_path, mark) -> Path:
    """A folder with the source of a package, whose build backend and `setup.py` leave a mark."""
    folder = tmp_path / "evil-1.0"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "evil"\nversion = "1.0"\n'
    )
    (folder / "backend.py").write_text(BACKEND.format(mark=str(mark)))
    (folder / "setup.py").write_text(BACKEND.format(mark=str(mark)))
    return folder


@pytest.fixture
def places(index, source, mark, tmp_path, monkeypatch) -> Callable[[str], str]:
    """URLs of every kind that a package may name; `git` on the path leaves a mark."""
    for suffix, mode in ((".tar.gz", "w:gz"), (".tar", "w"), (".tar.bz2", "w:bz2")):
        with tarfile.open(index.folder / f"evil-1.0{suffix}", mode) as archive:
            archive.add(source, "evil-1.0")
    with zipfile.ZipFile(index.folder / "evil-1.0.zip", "w") as archive:
        for file in source.iterdir():
            archive.write(file, f"evil-1.0/{file.name}")
    make_wheel(index.folder, "evil")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("git", "hg", "svn", "bzr"):
        program = programs / name
        program.write_text(f"#!/bin/sh\necho {name} > {mark}\nexit 3\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    local = index.folder.as_uri()
    return {
        "tar.gz by HTTP": f"{index.url}evil-1.0.tar.gz",
        "tar by HTTP": f"{index.url}evil-1.0.tar",
        "zip by HTTP": f"{index.url}evil-1.0.zip",
        "tar.bz2 by file": f"{local}/evil-1.0.tar.bz2",
        "folder": source.as_uri(),
        "wheel by HTTP": f"{index.url}evil-1.0-py3-none-any.whl",
        "wheel by file": f"{local}/evil-1.0-py3-none-any.whl",
        "git": f"git+{index.url}evil",
        "git to a wheel": f"git+{index.url}evil-1.0-py3-none-any.whl",
        "git by file": f"git+{source.as_uri()}",
        "git by ssh": "git+ssh://git@127.0.0.1:9/evil",
        "hg": f"hg+{index.url}evil",
        "svn": f"svn+{index.url}evil",
        "bzr": f"bzr+{index.url}evil",
        "ftp": "ftp://127.0.0.1:9/evil-1.0.tar.gz",
        "a wheel in the fragment": f"{index.url}evil-1.0.tar.gz#evil-1.0-py3-none-any.whl",
        "a wheel in the query": f"{index.url}evil-1.0.tar.gz?x=evil-1.0-py3-none-any.whl",
    }.__getitem__


KINDS = [
    *("tar.gz by HTTP", "tar by HTTP", "zip by HTTP", "tar.bz2 by file", "folder"),
    *("wheel by HTTP", "wheel by file", "git", "git to a wheel", "git by file", "git by ssh"),
    *("hg", "svn", "bzr", "ftp", "a wheel in the fragment", "a wheel in the query"),
]


def refusal(*requirements: str) -> str:
    with pytest.raises(PackageError) as caught:
        resolve(requirements)
    return str(caught.value)


def refusal_and_peak(*requirements: str) -> tuple[str, int]:
    """The refusal, and the most memory that pip took, in bytes.

    In a Python of its own: the kernel tells the largest of all children that a process ever had, and this one
    has had sandboxes.
    """
    code = (
        "import json, resource, sys\n"
        "from sandbox_runtime import PackageError\n"
        "from sandbox_runtime.packages.resolve import resolve\n"
        "try:\n    resolve(sys.argv[1:])\n    said = ''\n"
        "except PackageError as error:\n    said = str(error)\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        "print(json.dumps([said, peak * 1024]))"
    )
    command = [sys.executable, "-c", code, *requirements]
    message, peak = json.loads(subprocess.check_output(command, cwd=PROJECT))
    return message, peak


def fetched(index: PackageIndex) -> list[str]:
    return [path for path in index.requests if "evil" in path]


class TestAddresses:
    """A package cannot choose the source of another one."""

    @pytest.mark.sampled(2)
    @pytest.mark.sampled(3)
    @pytest.mark.parametrize("kind", KINDS)
    def test_a_dependency_with_an_address(self, index, places, mark, kind):
        """Content behind a URL is not executed, not built, and not even fetched."""
        index.add(make_wheel(index.folder, "thing", "1.0", f"evil @ {places(kind)}"))

        refusal("thing")

        assert not mark.exists()
        assert fetched(index) == []

    @pytest.mark.sampled(1)
    @pytest.mark.sampled(2)
    @pytest.mark.parametrize("kind", ["tar.gz by HTTP", "folder", "git", "wheel by HTTP"])
    def test_one_of_a_wheel_that_the_user_has(self, index, wheel, places, mark, kind):
        """A wheel on disk is no more trusted than one from an index."""
        path = wheel("mine", "1.0", f"evil @ {places(kind)}")

        message = refusal(f"mine @ {path.as_uri()}")

        assert not mark.exists()
        assert fetched(index) == []
        assert "mine requires evil from an address of its own" in message or "Invalid" in message

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize(
        "marker", ['; extra == "more"', '; sys_platform == "emscripten"', "[x]"]
    )
    def test_one_behind_an_extra_or_a_marker(self, index, places, mark, marker):
        """URLs are refused in indirect dependencies too, and only if they would be needed."""
        address = places("tar.gz by HTTP")
        line = f"evil[x] @ {address}" if marker == "[x]" else f"evil @ {address} {marker}"
        index.add(make_wheel(index.folder, "thing", "1.0", line, says="Provides-Extra: more\n"))
        index.add(make_wheel(index.folder, "outer", "1.0", "thing[more]"))

        message = refusal("outer")

        assert not mark.exists()
        assert fetched(index) == []
        assert "thing" in message
        assert "requires evil from an address of its own" in message

    def test_one_that_is_not_needed_does_not_matter(self, index, places):
        """A dependency for another platform does not count."""
        line = f'evil @ {places("tar.gz by HTTP")} ; sys_platform == "win32"'
        index.add(make_wheel(index.folder, "thing", "1.0", line))

        assert str(resolve(["thing"])) == "thing 1.0"

    def test_one_that_the_user_names_too(self, index, wheel, places):
        """A URL that the user names too is accepted; the message says so."""
        address = places("wheel by HTTP")
        path = wheel("mine", "1.0", f"evil @ {address}")

        assert "name it yourself" in refusal(f"mine @ {path.as_uri()}")
        found = resolve([f"mine @ {path.as_uri()}", f"evil @ {address}"])

        assert str(found) == "evil 1.0, mine 1.0"


class TestOnlyWheels:
    """Only wheels are fetched, wherever they are named."""

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("wheel by")])
    def test_in_the_users_own_list(self, places, mark, kind):
        """A source in the user's own list is refused before pip starts."""
        assert "does not name a wheel" in refusal(f"evil @ {places(kind)}")
        assert not mark.exists()

    @pytest.mark.parametrize(
        "line",
        [
            "mine; os_name == 'x\x85--index-url=http://i.invalid' or os_name == 'posix'",
            "mine; os_name == 'x\u2028-r /etc/passwd' or os_name == 'posix'",
            "mine; os_name != ' # that'",
            "mine @ https://i.invalid/mine-1.0-py3-none-any.whl#\\",
            "mine @ https://i.invalid/mine-1.0-py3-none-any.whl?${HOME}",
        ],
    )
    def test_a_line_that_pip_reads_as_something_else(self, index, line):
        """pip sees the requirement itself: no second line, no option, no variable in its place."""
        assert "cannot be passed to pip" in refusal(line)
        assert index.requests == []

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("setting", ["PIP_REQUIREMENT", "PIP_CONSTRAINT", "PIP_EDITABLE"])
    def test_in_the_settings_of_pip(
        self, index, thing, places, source, mark, tmp_path, monkeypatch, setting
    ):
        """pip's settings add no requirements, and a constraint must name a wheel."""
        listed = tmp_path / "listed.txt"
        listed.write_text(f"evil @ {places('tar.gz by HTTP')}\n")
        monkeypatch.setenv(setting, str(source if setting == "PIP_EDITABLE" else listed))

        assert str(resolve([thing])) == "thing 1.0"
        index.add(make_wheel(index.folder, "needs", "1.0", "evil"))
        assert "evil" in refusal("needs")
        assert not mark.exists()

    def test_another_python_in_the_settings_of_pip(self, thing, mark, tmp_path, monkeypatch):
        """Another Python would run a pip without the restriction to wheels."""
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\ntouch {mark}\n")
        python.chmod(0o755)
        monkeypatch.setenv("PIP_PYTHON", str(python))

        assert str(resolve([thing])) == "thing 1.0"
        assert not mark.exists()

    @pytest.mark.sampled(2)
    @pytest.mark.parametrize(
        "link",
        [
            "git+{url}thing-1.0-py3-none-any.whl",
            "hg+{url}thing-1.0-py3-none-any.whl",
            "{local}/thing-1.0-py3-none-any.whl",
            "{url}thing-1.0-py3.%252F..%252F..%252Fthing-none-any.whl",
            "{url}thing-1.0.tar.gz",
            "{url}thing-1.0.zip#egg=thing-1.0",
            "{url}thing-1.0-py3.11.egg",
            "{local}/evil-1.0.tar.gz#egg=thing-1.0",
        ],
    )
    def test_a_link_of_the_index(self, index, places, mark, link):
        """A page cannot name checkouts or local files, nor file names that leave a folder."""
        make_wheel(index.folder, "thing")
        page = index.folder / "thing" / "index.html"
        page.parent.mkdir()
        address = link.format(url=index.url, local=index.folder.as_uri())
        page.write_text(f'<a href="{address}">thing-1.0-py3-none-any.whl</a>')

        refusal("thing")

        assert not mark.exists()
        assert index.requests == ["/thing/"]

    def test_a_redirection_to_a_file(self, index, wheel, monkeypatch):
        """An HTTP request cannot be redirected to a local file."""
        path = wheel("thing")

        class Redirecting(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                page = f'<a href="/real.whl#sha256={sha256(path)}">thing-1.0-py3-none-any.whl</a>'
                page = page.replace("/real.whl", "/thing-1.0-py3-none-any.whl")
                if self.path.endswith(".whl"):
                    self.send_response(302)
                    self.send_header("Location", path.as_uri())
                    self.end_headers()
                else:
                    self.send_response(200)
                    self.send_header("Content-Type", "text/html")
                    self.end_headers()
                    self.wfile.write(page.encode())

        with serving(Redirecting) as place:
            monkeypatch.setenv("PIP_INDEX_URL", f"http://{place}/")
            message = refusal("thing")

        assert "which is not an HTTP URL" in message

    def test_metadata_beside_a_wheel_that_is_not_its_own(self, index, wheel):
        """A wheel whose metadata differs from the text used for resolution is refused."""
        path = index.add(wheel("thing", "1.0", "hidden"))
        (path.parent / f"{path.name}.metadata").write_text(
            "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n"
        )
        (path.parent / "index.html").write_text(
            f'<a href="{path.name}#sha256={sha256(path)}" data-dist-info-metadata="true" '
            f'data-core-metadata="true">{path.name}</a>'
        )

        message = refusal("thing")

        assert "metadata" in message.lower()

    def test_metadata_that_names_another_package(self, index, wheel, tmp_path):
        """A wheel must be the package that its file name states."""
        other = wheel("other")
        index.add(other.rename(tmp_path / "thing-1.0-py3-none-any.whl"))

        assert "thing" in refusal("thing")


JSON_PAGE = "application/vnd.pypi.simple.v1+json"
LIE = b"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n"


def listed(wheel: Path, url: str, **facts: object) -> bytes:
    """A page of the JSON index that lists one wheel."""
    file = {"filename": wheel.name, "url": url, "hashes": {"sha256": sha256(wheel)}, **facts}
    return json.dumps({"meta": {"api-version": "1.0"}, "name": "thing", "files": [file]}).encode()


# What an index answers: by the end of the path, a type and a body, or an address to go to.
ANSWERS: dict[str, Callable[[Path], dict[str, tuple[str, bytes | str]]]] = {
    "a file of the host in JSON": lambda wheel: {"/": (JSON_PAGE, listed(wheel, wheel.as_uri()))},
    "one with metadata beside it": lambda wheel: {
        "/": (JSON_PAGE, listed(wheel, wheel.as_uri(), **{"core-metadata": True}))
    },
    "a base of the page": lambda wheel: {
        "/": (
            "text/html",
            f'<base href="{wheel.parent.as_uri()}/"><a href="{wheel.name}">x</a>'.encode(),
        )
    },
    "a page that is a file": lambda wheel: {"/": ("location", wheel.as_uri())},
    "a page that is a file, in capitals": lambda wheel: {"/": ("location", f"FILE:{wheel}")},
    "metadata that is a file": lambda wheel: {
        "/": (JSON_PAGE, listed(wheel, f"/{wheel.name}", **{"core-metadata": True})),
        ".metadata": ("location", wheel.as_uri()),
    },
    "metadata with its own hash that hides a dependency": lambda wheel: {
        "/": (
            JSON_PAGE,
            listed(
                wheel,
                f"/{wheel.name}",
                **{"core-metadata": {"sha256": hashlib.sha256(LIE).hexdigest()}},
            ),
        ),
        ".metadata": ("text/plain", LIE),
        ".whl": ("application/zip", wheel.read_bytes()),
    },
    "JSON that is nested deeply": lambda _: {"/": (JSON_PAGE, b"[" * 100_000)},
    "JSON with a number of 5,000 digits": lambda _: {"/": (JSON_PAGE, b"9" * 5_000)},
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("answer", ANSWERS)
def test_what_an_index_answers(index, wheel, mark, places, monkeypatch, answer):
    """An index leads to no file of the host, and cannot hide what a wheel requires."""
    path = wheel("thing", "1.0", f"evil @ {places('tar.gz by HTTP')}")
    answers = ANSWERS[answer](path)

    class Hostile(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            ends = [end for end in answers if self.path.endswith(end)]
            kind, body = answers[ends[0]] if ends else ("text/plain", b"")
            self.send_response(302 if kind == "location" else 200)
            self.send_header(
                "Location" if kind == "location" else "Content-Type",
                str(body if kind == "location" else kind),
            )
            content = b"" if isinstance(body, str) else body
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/")
        message = refusal("thing")
        server.shutdown()
        thread.join()

    assert message
    assert not mark.exists()
    assert fetched(index) == []


PROGRAMS = {
    "subprocess": "import subprocess; subprocess.run(['touch', MARK])",
    "os.system": "import os; os.system('touch ' + MARK)",
    "os.fork": "import os; os.fork() or open(MARK, 'w')",
    "os.exec": "import os; os.execv('/bin/sh', ['sh', '-c', 'touch ' + MARK])",
    "os.posix_spawn": "import os; os.posix_spawn('/usr/bin/touch', ['touch', MARK], {})",
    "an import": "import sys; sys.path.insert(0, FETCHED); import evil",
    "a script": "import runpy; runpy.run_path(FETCHED + '/evil.py')",
    "exec of a file": "exec(compile(open(FETCHED + '/evil.py').read(), FETCHED + '/evil.py', 'exec'))",
    "a zip on the path": "import sys; sys.path.insert(0, FETCHED + '/evil.zip'); import evil",
    "a pickle": "import pickle; pickle.loads(PICKLE)",
    "a library": "import ctypes; ctypes.CDLL(FETCHED + '/library.so')",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_whatever_pip_does_nothing_is_executed(tmp_path, mark, program):
    """The audit hook alone, without the patches of pip, stops execution by unforeseen code paths."""
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    evil = f"open({str(mark)!r}, 'w')\n"
    (fetched / "evil.py").write_text(evil)
    (fetched / "library.so").write_bytes(b"\x7fELF")
    with zipfile.ZipFile(fetched / "evil.zip", "w") as archive:
        archive.writestr("evil.py", evil)
    setting = f"MARK, FETCHED = {str(mark)!r}, {str(fetched)!r}\nPICKLE = b'cos\\nsystem\\n(Vtrue\\ntR.'\n"
    guarded = (
        "import runpy, sys, linecache\n"
        f"guard = runpy.run_path({pip_guard.__file__!r})\n"
        "guard['refuse_foreign_code']()\n" + setting + "try:\n"
        f"    exec({PROGRAMS[program]!r})\n"
        "except PermissionError as error:\n    print('refused:', error)\n"
    )
    environment = {**os.environ, pip_guard.FETCHED_VARIABLE: str(fetched)}

    done = subprocess.run(
        [sys.executable, "-P", "-c", guarded],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    unguarded = subprocess.run(
        [sys.executable, "-P", "-c", setting + PROGRAMS[program]],
        capture_output=True,
        text=True,
        check=False,
    )

    ran_without_guard = mark.exists() or program in ("a pickle", "a library")
    mark.unlink(missing_ok=True)
    assert done.stdout.startswith("refused: pip may not"), (done.stdout, done.stderr)
    assert ran_without_guard, unguarded.stderr


class TestPip:
    """Only a pip with the expected parts is used."""

    def start(self, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
        return subprocess.run(
            [sys.executable, "-P", pip_for_sandbox.__file__, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_the_one_in_use(self):
        """Every patched part exists, and the patches are verified to work."""
        done = self.start("--version")

        assert done.returncode == 0, done.stderr
        assert importlib.metadata.version("pip") in done.stdout

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize(
        ("file", "old", "new"),
        [
            ("_internal/operations/prepare.py", "class RequirementPreparer", "class Preparer"),
            ("_internal/distributions/sdist.py", "def prepare_distribution_metadata", "def other"),
            ("_internal/req/req_install.py", "class InstallRequirement", "class Requirement_"),
            (
                "_internal/req/constructors.py",
                "def install_req_from_req_string(\n",
                "def install_req_from_req_string(*a, **k): pass\ndef other(\n",
            ),
        ],
    )
    def test_one_that_is_built_otherwise(self, tmp_path, file, old, new):
        """A pip with another structure is not run at all."""
        import shutil

        import pip

        copy = tmp_path / "copy" / "pip"
        shutil.copytree(Path(pip.__file__).parent, copy, ignore=lambda *_: ["__pycache__"])
        text = (copy / file).read_text()
        assert old in text
        (copy / file).write_text(text.replace(old, new, 1))

        done = self.start("--version", path=copy.parent)

        assert done.returncode == pip_for_sandbox.UNKNOWN_PIP, done
        assert done.stdout == ""

    def test_it_ends_with_the_host(self):
        """pip ends when its pipe to the host closes, however the host ends."""
        code = (
            "import runpy, time\n"
            f"guard = runpy.run_path({pip_guard.__file__!r})\n"
            "guard['end_with_host']()\nprint('up', flush=True)\ntime.sleep(1000)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout.readline() == b"up\n"
            process.stdin.close()
            assert process.wait(60) == 1


class TestEnvironment:
    """The environment variables that pip receives."""

    def test_secrets_are_not_passed(self, tmp_path):
        """Variables that locate an index are passed, keys for other services are not."""
        own = {
            "OPENAI_API_KEY": "sk-1",
            "AWS_SECRET_ACCESS_KEY": "x",
            "DATABASE_URL": "postgres://u:p@h/d",
            "LD_PRELOAD": "/library.so",
            "PYTHONSTARTUP": "/evil.py",
            "PIP_INDEX_URL": "https://index.invalid/",
            "https_proxy": "http://proxy.invalid/",
            "HOME": "/home/me",
        }

        passed = environment_for_pip(own, tmp_path)

        assert {"PIP_INDEX_URL", "https_proxy", "HOME"} <= passed.keys()
        assert not passed.keys() & {
            *("OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "LD_PRELOAD"),
            "PYTHONSTARTUP",
        }
        assert passed["TMPDIR"] == str(tmp_path)

    def test_a_helper_for_credentials_gets_what_the_user_names(self, tmp_path):
        """One variable lists the names of further variables to pass."""
        own = {"AWS_PROFILE": "me", "OTHER": "no", "SANDBOX_PIP_ENVIRONMENT": "AWS_PROFILE, AWS_X"}

        passed = environment_for_pip(own, tmp_path)

        assert passed["AWS_PROFILE"] == "me"
        assert "OTHER" not in passed

    def test_keyring_may_be_asked(self, index, thing, tmp_path, monkeypatch):
        """The program of pip's keyring setting is the only process that may start."""
        log = tmp_path / "asked"
        program = tmp_path / "bin" / "keyring"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\necho "$@" > {log}\nexit 1\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("PIP_KEYRING_PROVIDER", "subprocess")

        class Closed(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="x"')
                self.send_header("Content-Length", "0")
                self.end_headers()

        with serving(Closed) as place:
            monkeypatch.setenv("PIP_INDEX_URL", f"http://user@{place}/")
            refusal("thing")

        assert "get" in log.read_text().split()


ADDRESSES = {
    "a password": "thing @ http://user:TOPSECRET1@127.0.0.1:9/thing-1.0-py3-none-any.whl",
    "a password with an at": "thing @ http://user:TOP@SECRET1@127.0.0.1:9/thing-1.0-py3-none-any.whl",
    "a key in the query": "thing @ http://127.0.0.1:9/thing-1.0-py3-none-any.whl?api_key=TOPSECRET1",
    "a signature among others": "thing @ http://127.0.0.1:9/thing-1.0-py3-none-any.whl?a=b&sig=TOPSECRET1",
    "a source with a key": "thing @ http://127.0.0.1:9/thing-1.0.tar.gz?token=TOPSECRET1",
    "no requirement": "no thing @ http://me:TOPSECRET1@127.0.0.1:9/x?token=TOPSECRET1",
    "a line that pip rewrites": "thing @ http://127.0.0.1:9/thing-1.0-py3-none-any.whl?token=TOPSECRET1#\\",
    "a token of two thousand characters": "thing @ http://aws:TOPSECRET1{long}@127.0.0.1:9/x.tar.gz",
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("address", ADDRESSES)
def test_no_error_shows_a_key_of_an_address(index, address):
    """Passwords and keys of the user's own addresses are in no message, which may be logged."""
    line = ADDRESSES[address].format(long="x1" * 1_000)

    assert "SECRET1" not in refusal(line)


class TestBounds:
    """The cost of one package, or one page, for the host."""

    @pytest.fixture
    def bounds(self) -> dict[str, int]:
        """The bounds of a process in which `bound_resources` was called."""
        code = (
            "import runpy, resource, json\n"
            f"runpy.run_path({pip_guard.__file__!r})['bound_resources']()\n"
            "print(json.dumps({n: resource.getrlimit(getattr(resource, n))[0] for n in "
            "('RLIMIT_CPU', 'RLIMIT_DATA', 'RLIMIT_FSIZE', 'RLIMIT_CORE')}))"
        )
        return json.loads(subprocess.check_output([sys.executable, "-c", code]))

    def test_pip_is_bounded_by_the_system(self, bounds):
        """CPU time, memory and file size are limited, and core dumps are disabled."""
        assert 0 < bounds["RLIMIT_CPU"] <= pip_guard.CPU_SECONDS
        assert 0 < bounds["RLIMIT_DATA"] <= pip_guard.MEMORY_BYTES
        assert 0 < bounds["RLIMIT_FSIZE"] <= pip_guard.FILE_BYTES
        assert bounds["RLIMIT_CORE"] == 0

    @pytest.mark.nightly  # unpacks gigabytes; the bounds themselves are in `test_pip_is_bounded_by_the_system`
    def test_a_page_that_unpacks_to_gigabytes(self, index, monkeypatch):
        """4 MB of gzip for a page of 4 GB: pip fails within its memory limit, with a message."""
        # Concatenated gzip members decode to one text.
        page = 256 * gzip.compress(b" " * 16_000_000)

        class Packed(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Encoding", "gzip")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                with contextlib.suppress(OSError):
                    self.wfile.write(page)

        with serving(Packed) as place:
            monkeypatch.setenv("PIP_INDEX_URL", f"http://{place}/")
            message, peak = refusal_and_peak("thing")

        assert len(page) < 5_000_000
        assert "bytes of memory" in message or "would have to be fetched" in message
        assert peak < pip_guard.MEMORY_BYTES + 200_000_000

    def test_what_does_not_end_is_ended(self, index, thing, monkeypatch):
        """A server that never answers: pip is killed by the time the error is raised."""
        from sandbox_runtime.packages import pip as pip_runs

        monkeypatch.setattr(pip_runs, "PIP_SECONDS", 5)
        release = threading.Event()

        class Silent(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                release.wait(100)

        with serving(Silent) as place:
            monkeypatch.setenv("PIP_INDEX_URL", f"http://{place}/")
            message = refusal("thing")
            release.set()

        assert "did not finish within 5 s" in message
        assert b"pip_for_sandbox" not in b"".join(_commands())


def _commands() -> Iterator[bytes]:
    """Returns the command lines of this process's children."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(status.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                yield (status.parent / "cmdline").read_bytes()
        except (OSError, ValueError):
            continue
