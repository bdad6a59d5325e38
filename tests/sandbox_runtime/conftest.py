"""Sessions for the tests: real Deno and Pyodide, closed in any case."""

from __future__ import annotations

import builtins
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from driver_cells import Cells
from package_index import CLOSED, PackageIndex, make_wheel
from session_cells import HASTY, MEBIBYTE, TOOLS

from sandbox_runtime import Limits, Session, open_session
from sandbox_runtime.engine import assets
from sandbox_runtime.installation.package_images import with_packages
from sandbox_runtime.open import ready_engine
from sandbox_runtime.packages import resolve as packages
from sandbox_runtime.packages import store as package_sets
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


# Deletes what the cells of earlier tests have bound.
_CLEAR = (
    "for name in [name for name in globals() if name[:2] != '__']:\n    globals().pop(name, None)"
)


@pytest.fixture(scope="session")
def _lending() -> Iterator[list[Session]]:
    """Holds the session that `lent` lends, once it exists."""
    sessions: list[Session] = []
    yield sessions
    for session in sessions:
        session.close()


@pytest.fixture
def lent(_lending) -> Iterator[Callable[..., Session]]:
    """Lends a session to tests that leave it sound, with tools and outputs of their own: to open one takes longer.

    Its limits are the usual ones, its namespace is empty. After a test that cost it its process it is
    not lent again.
    """

    def lend(tools=None, outputs=None) -> Session:
        if not _lending:
            _lending.append(open_session())
        session = _lending[0]
        session.register(tools or {}, outputs)
        session.run_cell(_CLEAR)
        return session

    yield lend
    if _lending and (_lending[0].closed or _lending[0].restarts):
        _lending.pop().close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A separate user cache with the engine in it."""
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


def _alone(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Disables pip's settings, and keeps its cache in the folder."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        patch.delenv(name)
    patch.setenv("PIP_CONFIG_FILE", os.devnull)
    patch.setenv("PIP_CACHE_DIR", str(folder / "pip"))
    patch.setenv(DISTRIBUTION_VARIABLE, CLOSED)


@pytest.fixture
def index(tmp_path, monkeypatch, cache):
    """A package index that replaces pip's other indexes."""
    folder = tmp_path / "index"
    folder.mkdir()
    _alone(monkeypatch, tmp_path)
    index = PackageIndex(folder)
    monkeypatch.setenv("PIP_INDEX_URL", index.url)
    yield index
    index.close()


@pytest.fixture
def wheel(tmp_path):
    """Builds a wheel from modules by path, and requirements."""

    def make(name: str, *details: str, **settings) -> Path:
        return make_wheel(tmp_path, name, *details, **settings)

    return make


@pytest.fixture
def thing(index, wheel):
    """The name of a package in the index."""
    index.add(wheel("thing"))
    return "thing"


@pytest.fixture(scope="session")
def _thing_resolved(tmp_path_factory) -> tuple[Path, Path]:
    """The wheel of `thing`, and the part of the cache that has it, with its image."""
    folder = tmp_path_factory.mktemp("resolved")
    index = PackageIndex(folder)
    with pytest.MonkeyPatch.context() as patch:
        _alone(patch, folder)
        patch.setenv("PIP_INDEX_URL", index.url)
        wheel = index.add(make_wheel(folder, "thing"))
        engine = ready_engine()
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        with_packages(engine, packages.resolve(["thing"]))
        resolved = package_sets.cache_folder()
    index.close()
    return wheel, resolved


@pytest.fixture
def resolved(index, _thing_resolved, tmp_path):
    """The name of the same package, resolved before: resolving runs pip, and builds an image."""
    wheel, folder = _thing_resolved
    index.add(Path(shutil.copy(wheel, tmp_path)))
    shutil.copytree(folder, package_sets.cache_folder())
    return "thing"


@pytest.fixture(scope="module")
def session():
    """One session for all tests that leave it usable; the following tests verify that."""
    with open_session(tools=TOOLS) as shared:
        yield shared


@pytest.fixture(scope="module")
def rough():
    """A session for cells that may cost it its process; it recovers afterwards."""
    with open_session(limits=Limits(memory_bytes=256 * MEBIBYTE), tools=TOOLS) as shared:
        yield shared


@pytest.fixture
def wrecked(rough):
    """A session for cells that damage what later cells use; its process is replaced after the test."""
    yield rough
    os.kill(rough.pid, signal.SIGKILL)
    rough.run_cell("")


@pytest.fixture
def reregister(session):
    """Registers other tools and outputs in the shared session for the duration of a test."""

    def register(tools=None, outputs=None):
        session.register(tools or {}, outputs)
        return session

    yield register
    session.register(TOOLS)


@pytest.fixture(scope="module")
def hasty():
    """A session whose cells are interrupted soon."""
    with open_session(limits=HASTY) as shared:
        yield shared


@pytest.fixture
def started():
    """A tool by which the cell reports its start, and the event that it sets."""
    event = threading.Event()

    def begin():
        event.set()

    begin.event = event
    return begin


@pytest.fixture
def open_cells():
    """Creates drivers; restores what they change in this process."""
    own = dict(vars(builtins))
    streams, main = (sys.stdout, sys.stderr), sys.modules["__main__"]
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGALRM)]
    limit = sys.getrecursionlimit()
    created = []

    def make(*args, **kwargs):
        created.append(Cells(*args, **kwargs))
        return created[-1]

    yield make
    builtins.__dict__.clear()
    builtins.__dict__.update(own)
    (sys.stdout, sys.stderr), sys.modules["__main__"] = streams, main
    for number, handler in handlers:
        signal.signal(number, handler)
    sys.setrecursionlimit(limit)
    for cells in created:
        cells.host.close()


@pytest.fixture
def others_wait():
    """Keeps other threads, such as the event loop of LM calls, from running while a cell has broken this process's builtins."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(60)
    yield
    sys.setswitchinterval(usual)


@pytest.fixture
def cells(open_cells):
    """A driver without tools, whose SUBMIT accepts any value."""
    return open_cells()


@pytest.fixture
def project(tmp_path):
    """A folder with `.gitignore` files, links to the outside, binary and hidden files."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("SECRET\n")
    root = tmp_path / "project"
    for path, content in {
        "README.md": "read me\n",
        "src/a.py": "import os\n# TODO one\n",
        "src/deep/b.py": "# TODO two\n",
        "src/deep/keep.log": "TODO kept\n",
        "src/deep/.gitignore": "!keep.log\n",
        "app.log": "TODO log\n",
        "build/out.txt": "TODO built\n",
        ".git/config": "TODO git\n",
        ".env": "TODO hidden\n",
        ".gitignore": "*.log\nbuild/\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    (root / "data.bin").write_bytes(b"TODO\0\0")
    (root / "link.txt").symlink_to(outside / "secret.txt")
    (root / "linked").symlink_to(outside)
    return root
