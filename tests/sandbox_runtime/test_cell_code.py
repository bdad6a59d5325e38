"""A cell compiled by its lines is the same program as one compiled as a tree; see `guest/cell_code.py`."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from types import CodeType

import pytest

from sandbox_runtime.guest import cell_code

# Lines that begin, continue, interrupt or end something, so that a random few of them often form a program.
LINES = """\
x = 1
f(
1,
)
\"\"\"
'''
text
print(1)
if x:
    y
else:
\\
@dec
def f(): pass
class A:
# comment
+ 2
x; y
x
for i in x: f()
try:
    pass
except E: pass
finally:
await g()
[
]
lambda: (
f'{
}'
async def h():
    return 1
from __future__ import annotations
a: int = 3
*a, b
x := 3
(yield)
return
'abc'
with a:
1 if x else 2
...
-1
é
""".splitlines(keepends=True)
OTHERS = ("\n", "  ", "\f", "\t", "\x00", ";", "x = 1 \\\n", "\r", "a\r\n")


def outcome(compiled: Callable[[str, str], list[CodeType]], code: str) -> object:
    """Returns the parts of a cell that do anything, or the error that it has."""
    try:
        parts = compiled(code, "<cell 1>")
    except (SyntaxError, ValueError) as error:
        return type(error), str(error), getattr(error, "lineno", 0), getattr(error, "offset", 0)
    return [part for part in parts if part.co_names or len(part.co_consts) > 1 or part is parts[-1]]


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("print(1 + 1)", 1),
        ("print(1 + 1)\n\n  # done\n", 1),
        ("x = 1\nx", 2),
        ("x = 1\nf(x,\n  2,\n)\n", 2),
        ('"""Doc."""\nx\n', 2),
        ("for x in y:\n    z\nx", 2),
        ("await f()\nawait g()", 2),
        ("\n\n\nx", 2),
    ],
)
def test_a_last_expression_needs_no_tree(code: str, parts: int) -> None:
    """Such a cell is compiled by its lines, with the positions that the tree would have."""
    compiled = cell_code._compiled_by_lines(code, "<cell 1>")
    assert len(compiled) == parts
    assert outcome(cell_code.compile_cell, code) == outcome(cell_code._compiled_as_tree, code)


@pytest.mark.parametrize(
    "code",
    [
        "",
        "x = 1",
        "x = 1 \\\n+ 2",
        "f('''\ntext\n''')",
        "f(\n1\n)\n+ 2; x",
        "x\rx = 2\rx",
        "if x:\n    pass\nelse: x",
        "@f\nx",
        "x\n\x00",
        "(\n",
        "return",
        "*a, b",
    ],
)
def test_other_cells_are_compiled_as_a_tree(code: str) -> None:
    """A cell that is not one program after another, or is none, has what the tree says."""
    assert cell_code._compiled_by_lines(code, "<cell 1>") == []
    assert outcome(cell_code.compile_cell, code) == outcome(cell_code._compiled_as_tree, code)


def test_a_warning_is_no_error() -> None:
    """A cell that is warned about is compiled, whatever an earlier one has asked for; other filters apply."""
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("error")
        before = warnings.filters

        assert len(cell_code.compile_cell("x is 1", "<cell 1>")) == 1

        assert warnings.filters is before
        assert [one.category for one in shown] == [SyntaxWarning]
        warnings.simplefilter("ignore")
        cell_code.compile_cell("x is 1", "<cell 1>")
        assert len(shown) == 1


def test_both_ways_agree_on_random_cells() -> None:
    """Whatever lines a cell consists of, both ways compile the same code, or raise the same error."""
    choose = random.Random(17)
    by_lines = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(4_000):
            code = "".join(choose.choices((*LINES, *OTHERS), k=choose.randint(1, 7)))
            by_lines += bool(cell_code._compiled_by_lines(code, "<cell 1>"))
            expected = outcome(cell_code._compiled_as_tree, code)
            assert outcome(cell_code.compile_cell, code) == expected, repr(code)
    assert by_lines > 100
