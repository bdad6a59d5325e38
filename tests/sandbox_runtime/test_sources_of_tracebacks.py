"""The report of an error shows lines of source, and runs nothing that an earlier cell has put in their place."""

from __future__ import annotations

import pytest

from sandbox_runtime import Completed, Failed

PLANTS = {
    "a loader": "for module in list(sys.modules.values()):\n"
    "    try: module.__spec__.loader = types.SimpleNamespace(get_source=forge)\n"
    "    except Exception: pass\n"
    "    try: module.__loader__ = types.SimpleNamespace(get_source=forge)\n"
    "    except Exception: pass",
    "the loader of the cells": "__loader__ = types.SimpleNamespace(get_source=forge)\n__spec__ = None",
    "a source that is read late": "for n in range(50): linecache.cache[f'<cell {n}>'] = (forge,)",
    "the closure of such a source": "try: import statistics; statistics.mean([])\nexcept Exception: traceback.format_exc()\n"
    "for entry in list(linecache.cache.values()):\n    for part in getattr(entry[0], '__closure__', None) or ():\n"
    "        part.cell_contents = forge",
    "lines that act": "class Lines(list):\n    def __getitem__(self, at): return forge()\n    def __iter__(self): forge(); return iter(())\n"
    "    def __len__(self): return 99\n"
    "for n in range(50): linecache.cache[f'<cell {n}>'] = (1, None, Lines(), 'x')",
    "a line that acts": "class Line(str):\n    strip = rstrip = expandtabs = encode = forge\n    def __getitem__(self, at): return forge()\n"
    "for n in range(50): linecache.cache[f'<cell {n}>'] = (1, None, [Line('a')] * 9, 'x')",
}

FORGE = """\
import gc, linecache, sys, traceback, types
ran = []
def forge(*_, **__):
    ran.append(sys._getframe(1).f_code.co_name)
    return 'FORGED'
"""


@pytest.mark.sampled(5)
@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
@pytest.mark.parametrize(
    "code",
    ["1 / 0", "import statistics\nstatistics.mean([])", "tool()"],
    ids=["own", "library", "host"],
)
def test_nothing_that_was_planted_runs(opened, plant, code):
    """Neither in the report of a later cell's error, nor after it."""

    def tool():
        raise ValueError("no")

    session = opened(tools={"tool": tool})
    assert isinstance(session.run_cell(FORGE + plant + "\nran.clear()"), Completed)
    for _ in range(2):
        result = session.run_cell(code)
        assert isinstance(result, Failed)
        assert "FORGED" not in result.traceback
        assert "could not be shown" not in result.traceback
    assert session.run_cell("ran") == Completed("[]\n")


def test_lines_of_the_library_are_shown(opened):
    """Also those that no report has shown before; and `inspect` finds the source of a function."""
    session = opened()

    result = session.run_cell("import statistics\nstatistics.mean([])")
    assert "raise StatisticsError" in result.traceback
    assert session.run_cell("import inspect, shlex\ninspect.getsource(shlex.quote)[:9]") == (
        Completed("'def quote'\n")
    )
