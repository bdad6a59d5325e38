"""`help` in a cell: the call and the documentation of what the REPL offers, and nothing of how it is made."""

from __future__ import annotations

import re

import pandas

from dspy_rlm import Directory, TextFile


def look_up(term: str, limit: int = 5) -> list[str]:
    """Looks up a term."""
    return [term] * limit


def test_help_shows_calls_and_documents_only(play, tmp_path):
    """No module of the sandbox, no `*args`, and no inherited plumbing is in it."""
    (tmp_path / "a.txt").write_text("x")
    names = [
        "look_up",
        "predict",
        "sub_rlm_batched",
        "sub_llm",
        "BUDGET",
        "SUBMIT",
        "files",
        "text",
        "rows",
    ]
    cells = [f"help({name})" for name in names]
    rlm, _ = play(
        "files, text, rows -> answer: str",
        *cells,
        "help(rows[0])\nhelp(rows['n'])",
        "import dspy\nhelp(dspy.Predict)",
        "help()\nprint(help)",
        "help(abs)\nhelp(str.upper)",
        "def own(x):\n    '''Mine.'''\nclass Own:\n    '''Of the cell.'''\nhelp(own)\nhelp(Own)",
        "SUBMIT('done')",
        tools=[look_up],
        max_iterations=30,
    )
    table = pandas.DataFrame({"n": [1, 2]})
    inputs = {"files": Directory(tmp_path), "text": TextFile(tmp_path / "a.txt"), "rows": table}
    seen = [step["output"] for step in rlm(**inputs).trajectory]
    text_by_name = dict(zip(names, seen, strict=False))

    assert text_by_name["look_up"].startswith(
        "look_up(term: str, limit: int = 5) -> list[str]\n\nLooks up a term.\n\nAlso: `await look_up.aio(...)`"
    )
    assert text_by_name["predict"].startswith(
        "predict(signature: Any, /, *values: Any, **inputs: Any) -> Any\n\nAsks a sub-LM"
    )
    assert "predict.batched" not in text_by_name["predict"]
    assert (
        text_by_name["SUBMIT"].strip() == "SUBMIT(answer: str)\n\nEnds the run with these outputs."
    )
    assert "    group_by(*names)  Returns the rows by the value" in text_by_name["rows"]
    assert "    dtypes  The types of the columns by name." in text_by_name["rows"]
    for output in seen[: len(names) + 3]:
        assert not re.search(
            r"Help on|sandbox_runtime|\*args: Any|__\w+__|'Any'|Method resolution", output
        )
    assert len(text_by_name["files"]) < 700
    assert "help(x) shows the documentation" in seen[-4]
    assert "Return the absolute value of the argument." in seen[-3]
    assert "own(x)\n    Mine." in seen[-2]
    assert "Of the cell." in seen[-2]
