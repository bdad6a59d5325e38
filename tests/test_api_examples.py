"""The examples of the API reference, `website/api/`: every public name has one, and each prints what it says.

The pages are `dspy_rlm`, `sandbox_runtime` and `modules`.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from doc_blocks import Block, blocks, fits, promises
from thrifty_pool import ThriftyPool

import dspy_rlm
from sandbox_runtime import Completed, Session, default_pool, set_default_pool
from website.api_examples import FOLDER, read_examples
from website.reference import PAGES

# They start processes of their own, import much, or take longer than their share of a push. (Some pages of docs/ show the
# same on each push.)
NIGHTLY = {
    *(f"dspy_rlm.{name}" for name in ("JobError", "JobProgress", "JobReport", "Rate", "batch")),
    *(f"dspy_rlm.{name}" for name in ("MCP", "ToolServerError", "Table", "branches", "fork")),
    *(f"dspy_rlm.{name}" for name in ("Pool", "SandboxInterpreter", "open_repl")),
    *(f"dspy_rlm.tracing.{name}" for name in ("instrument", "uninstrument")),
    *(f"sandbox_runtime.{name}" for name in ("Checkpoint", "Limits", "Pool", "default_pool")),
    *(f"sandbox_runtime.{name}" for name in ("SessionClosedError", "Table", "open_session")),
}

# Lines of an example, without empty ones.
MAX_LINES = 12

# Deletes what an example has bound.
FORGET = "for _name in set(globals()) - {names!r} - {{'_name'}}:\n    del globals()[_name]\nglobals().pop('_name', None)"


def sections(path: Path) -> dict[str, list[Block]]:
    """Returns the blocks of a page by the heading that they are under; those of the introduction under "Introduction"."""
    lines = path.read_text("utf-8").splitlines()
    found: dict[str, list[Block]] = {"Introduction": []}
    for block in blocks(path):
        above = (line[3:] for line in reversed(lines[: block.line - 1]) if line.startswith("## "))
        found.setdefault(next(above, "Introduction"), []).append(block)
    return found


BY_PAGE = {page: sections(FOLDER / Path(page).name) for page in PAGES}
EXAMPLES = [
    pytest.param(page, name, id=name, marks=[pytest.mark.nightly] * (name in NIGHTLY))
    for page, found in BY_PAGE.items()
    for name, parts in found.items()
    if name != "Introduction" and not all(block.reason for block in parts)
]


def test_the_nightly_examples_exist():
    """The names of this file are those of examples."""
    assert {name for found in BY_PAGE.values() for name in found} >= NIGHTLY


@pytest.mark.parametrize("page", PAGES)
def test_every_public_name_has_an_example(page: str):
    """Each public name of the page's modules has a section with an example that uses it, and there is no other section."""
    public = {
        f"{module.name}.{name}"
        for module in PAGES[page][1]
        for name in importlib.import_module(module.name).__all__
    }
    assert set(read_examples(page).sections) == public
    assert set(BY_PAGE[page]) == public | {"Introduction"}


@pytest.mark.parametrize("page", PAGES)
def test_an_example_is_short_and_uses_its_name(page: str):
    """An example has some lines that use the name, and one that runs prints something that its comments say."""
    problems = []
    for name, parts in BY_PAGE[page].items():
        code = "".join(block.code for block in parts)
        if name != "Introduction" and name.rpartition(".")[2] not in code:
            problems.append(f"{name} does not use it")
        if name != "Introduction" and len(list(filter(None, code.splitlines()))) > MAX_LINES:
            problems.append(f"{name} has more than {MAX_LINES} lines")
        if (
            name != "Introduction"
            and not any(block.reason for block in parts)
            and not promises(code)
        ):
            problems.append(f"{name} prints nothing")
    assert not problems, "\n".join(problems)


class Prepared:
    """The names that the introductions of the pages bind, each page's once."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, Any]] = {}

    def names(self, page: str) -> dict[str, Any]:
        """Returns the names for an example of the page."""
        if page not in self._names:
            names: dict[str, Any] = {}
            for block in BY_PAGE[page]["Introduction"]:
                run(block, names)
            self._names[page] = names
            if isinstance(session := names.get("session"), Session):
                names["_first"] = session.run_cell("print(*globals())").output.split()
        names = self._names[page]
        if isinstance(session := names.get("session"), Session):
            session.register({}, None, types=())
            assert isinstance(
                session.run_cell(FORGET.format(names=set(names["_first"]))), Completed
            )
        return dict(names)

    def close(self) -> None:
        """Closes the servers and sessions."""
        for names in self._names.values():
            for name in ("server", "session"):
                if name in names:
                    names[name].close()
            if "folder" in names:
                names["folder"].cleanup()


def run(block: Block, names: dict[str, Any]) -> None:
    """Runs a block."""
    exec(compile(block.code, block.place, "exec", dont_inherit=True), names)


@pytest.fixture(scope="module")
def prepared() -> Iterator[Callable[[str], dict[str, Any]]]:
    """Returns the names for the examples of a page. All runs share a sandbox."""
    pool, usual = ThriftyPool(keeps=2), default_pool()
    set_default_pool(pool)
    with contextlib.closing(Prepared()) as all_pages:
        yield all_pages.names
    set_default_pool(usual)
    pool.close()


@pytest.fixture
def _settings_of_the_process() -> Iterator[None]:
    yield
    dspy_rlm.uninstall()
    dspy_rlm.configure(journal=None, live=None, limits_per_model=None)


@pytest.mark.sampled(40)
@pytest.mark.usefixtures("_settings_of_the_process")
@pytest.mark.parametrize(("page", "name"), EXAMPLES)
def test_the_examples_print_what_their_comments_say(
    page, name, prepared, tmp_path, monkeypatch, capsys
):
    """Each example runs by itself, in an empty folder, after the introduction of its page."""
    monkeypatch.chdir(tmp_path)
    names = prepared(page)
    capsys.readouterr()
    parts = [block for block in BY_PAGE[page][name] if not block.reason]
    for block in parts:
        run(block, names)

    printed = capsys.readouterr().out
    promised = [one for block in parts for one in promises(block.code)]
    # Outputs of cells end with a line end of their own, and DSPy's evaluation shows its progress.
    lines = "\n".join(line for line in printed.splitlines() if line and "%|" not in line)
    assert fits(lines, "\n".join(promised)), printed
