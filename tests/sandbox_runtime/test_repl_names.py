"""Names and modules that behave in cells as models expect: JSON's words, exit(), imports of tools, strftime."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox_runtime import Completed, Failed, Session, TextFile, open_session
from sandbox_runtime.guest.date_texts import linux_strftime
from sandbox_runtime.guest.values.tables import Table


def search(query: str) -> str:
    """Finds a page."""
    return f"page on {query}"


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with open_session(tools={"search": search}) as session:
        yield session


def output(session: Session, code: str) -> str:
    result = session.run_cell(code)
    assert isinstance(result, Completed), result
    return result.output.strip()


def test_json_words_are_values(session: Session) -> None:
    """A JSON text that is pasted into code is a Python value."""
    assert output(session, '{"a": true, "b": [false, null], "c": Infinity}') == (
        "{'a': True, 'b': [False, None], 'c': inf}"
    )


def test_json_words_hide_no_variable(session: Session) -> None:
    """A variable named like one of JSON's words is the variable, also in later cells."""
    session.run_cell("true, null = 5, 'x'")
    assert output(session, "true, null, false") == "(5, 'x', False)"
    assert output(session, "del true, null\ntrue, null") == "(True, None)"


@pytest.mark.parametrize(
    "code",
    [
        "exit()",
        "quit(1)",
        "import sys; sys.exit('bye')",
        "raise SystemExit",
        "import os; os._exit(1)",
        "import os; os.abort()",
    ],
)
def test_an_exit_ends_only_its_cell(code: str, session: Session) -> None:
    """However a cell exits, it is told about SUBMIT, and variables, help and stdin stay."""
    session.run_cell("kept = 1")
    result = session.run_cell(code)
    assert isinstance(result, Failed)
    assert "SUBMIT" in result.message
    assert output(session, "kept") == "1"
    assert "Finds a page" in output(session, "help(search)")
    assert output(session, "import sys\nprint(repr(sys.stdin.read()))") == "''"


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.stdin.close()",
        "import sys; sys.stdin = None; del sys.stdout",
        "import sys; sys.stdout.close()",
        "import os; os.close(0); os.close(1)",
        "import builtins; del builtins.print, builtins.len; builtins.exit = 5",
        "print = len = str = None; del print, len, str",
    ],
)
def test_broken_streams_and_builtins_last_one_cell(code: str, session: Session) -> None:
    """The next cell has its streams and builtins again."""
    assert isinstance(session.run_cell(code), Completed)
    code = "import sys\nprint(len(sys.stdin.read()), str(1), exit)"
    assert output(session, code) == "0 1 Call SUBMIT(...) to finish."
    assert "Finds a page" in output(session, "help(search)")


@pytest.mark.parametrize("statement", ["import search", "from search import search"])
def test_a_tool_can_be_imported(statement: str, session: Session) -> None:
    """An import of a name that is there without it gives the same function."""
    assert output(session, f"before = search\n{statement}\nprint(before is search)") == "True"
    assert output(session, f"{statement} as s\ns('x')") == "'page on x'"


def test_a_tool_hides_no_module() -> None:
    """A tool that is named like a module of Python does not take its place in imports."""

    def json(text: str) -> str:
        """Formats a text."""
        return text

    with open_session(tools={"json": json}) as session:
        assert output(session, "from json import dumps\ndumps([1])") == "'[1]'"


FORMATS = [
    *("%l:%M %P", "%k h", "100%", "%-d %B", "%e", "%G-W%V", "%D", "%r", "%c", "%h", "%C", "%_d"),
    *("%^a", "%05d", "%Ey", "%Od", "%+", "%v", "%Q", "%%l", "%-I:%M", "%#p", "%10Y", "%-m/%-d/%y"),
    *("%_H", "%j", "%-j", "%U", "%u", "%L", "%N", "", "%", "%-", "%E", "%n", "a%tb", "%-H%%%l"),
]


def test_strftime_is_that_of_linux(session: Session) -> None:
    """Every directive gives what glibc gives, in all three classes and in f-strings; never an empty text."""
    moments = [datetime.datetime(2024, 1, 5, 15, 4), datetime.datetime(1999, 12, 31, 0, 59, 7)]
    expected = [[moment.strftime(f) for f in FORMATS] for moment in moments]
    code = f"""
import datetime, time
moments = {moments!r}
print([[m.strftime(f) for f in {FORMATS!r}] for m in moments] == {expected!r})
print(f"{{moments[0]:%-d.%-m.%Y}}", moments[0].date().strftime("%A %-d"), moments[0].time().strftime("%-I %P"))
print(time.strftime("%-d %P", time.gmtime(0)), datetime.datetime(2024, 1, 5).strftime("%s"))
"""
    assert output(session, code).splitlines() == [
        "True",
        "5.1.2024 Friday 5 3 pm",
        "1 am 1704412800",
    ]


def test_a_width_in_strftime_is_bounded() -> None:
    """A format cannot ask for a text of any length."""
    strftime = linux_strftime(lambda format, moment: "" if format != "%d" else "05")
    assert len(strftime("%999999999d", (2024,) * 9)) == 1000


def test_re_explains_texts_that_stay_on_the_host(tmp_path: Path) -> None:
    """`re` refuses a text that stays on the host; the traceback says what to use."""
    (tmp_path / "a.txt").write_text("some text")
    with open_session() as session:
        session.assign("text", TextFile(tmp_path / "a.txt"))
        result = session.run_cell("import re\nre.search('x', text)")
    assert isinstance(result, Failed)
    assert "text.search(pattern)" in result.traceback


def test_table_names_what_it_has() -> None:
    """A column is an attribute too, and an attribute that is not there names columns and methods."""
    table = Table({"a": [1, 2], "b": ["x", "y"]}, {"a": "int", "b": "str"}, 2)
    assert list(table.a) == [1, 2]
    with pytest.raises(AttributeError, match=r"columns 'a', 'b'.*filter.*group_by"):
        table.iloc  # noqa: B018 - the attribute is the test
