"""The generators in another version of Python: that of the sandbox, which is newer than the one that tests run on."""

from __future__ import annotations

from pathlib import Path

import pytest

import dspy_rlm.tasks
from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.loading import KINDS
from dspy_rlm.tasks.task import digest_of
from sandbox_runtime import Completed, Limits, open_session
from sandbox_runtime.helpers import python_library

FOLDER = Path(dspy_rlm.tasks.__file__).parent
TOKENS, EXAMPLES = 8_000, 4

# Imports the generators from their sources. The two modules that they need besides the standard library stand for what the host has.
PROGRAM = """
import ast, importlib.abc, importlib.util, io, sys, types

class Sources(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name in sources or name.partition(".")[0] in ("dspy_rlm", "sandbox_runtime"):
            return importlib.util.spec_from_loader(name, self, is_package=name not in sources)

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(compile(sources.get(module.__name__, ""), module.__name__, "exec"), module.__dict__)

sys.meta_path.insert(0, Sources())
sys.modules["sandbox_runtime.helpers"] = helpers = types.ModuleType("helpers")
helpers.python_library = lambda: io.BytesIO(library)
sys.modules["dspy_rlm.values.python_text"] = python_text = types.ModuleType("python_text")
python_text.syntax_tree = ast.parse

from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.loading import KINDS
from dspy_rlm.tasks.task import digest_of

for name, kind in KINDS.items():
    print(name, digest_of(list(kind.generate(Draws(name, 0, tokens), tokens * 4, examples))))
"""


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_the_sandboxs_python_builds_the_same_tasks():
    """Every generator makes the same bytes inside the sandbox as outside of it."""
    names = [path.relative_to(FOLDER) for path in FOLDER.rglob("*.py") if path.name[:2] != "__"]
    sources = {
        "dspy_rlm.tasks." + ".".join(name.with_suffix("").parts): (FOLDER / name).read_text("utf-8")
        for name in names
    }
    here = {
        name: digest_of(list(kind.generate(Draws(name, 0, TOKENS), TOKENS * 4, EXAMPLES)))
        for name, kind in KINDS.items()
    }

    with open_session(limits=Limits(cell_seconds=100)) as session:
        session.assign("sources", sources)
        session.assign("library", python_library().read_bytes())
        session.assign("tokens", TOKENS)
        session.assign("examples", EXAMPLES)
        result = session.run_cell(PROGRAM)

    assert isinstance(result, Completed)
    assert dict(line.split() for line in result.output.splitlines()) == here
