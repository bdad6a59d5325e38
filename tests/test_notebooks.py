"""The notebooks: pairs that agree, outputs that can be shown to anyone, and the first of them run."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import dspy
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))
CELL = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)
# Of a home, a temporary folder, a checkout or an installation; and of anything that looks like a key.
PRIVATE = re.compile(
    r"(?<![\w.])/(?:home|root|Users|tmp|var|work|opt)/\w|site-packages|\bsk-[A-Za-z0-9]{8}|[Aa]pi_key=['\"][^'\"]*\d"
)


def cells_of_source(path: Path) -> list[tuple[str, str]]:
    """Returns the kinds and the texts of the cells of a `.py` file in percent format."""
    _, *parts = CELL.split(path.read_text("utf-8"))
    cells = []
    for mark, body in zip(parts[::2], parts[1::2], strict=True):
        text = body.strip("\n")
        if mark:
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in text.split("\n"))
        cells.append(("markdown" if mark else "code", text))
    return cells


def notebook_of(path: Path) -> dict:
    return json.loads(path.with_suffix(".ipynb").read_text("utf-8"))


def outputs_of(notebook: dict) -> list[dict]:
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def test_there_are_ten_pairs():
    """Each notebook has a text and a form with outputs, and the index lists it."""
    assert [path.stem for path in SOURCES] == [path.stem for path in sorted(FOLDER.glob("*.ipynb"))]
    assert len(SOURCES) == 10
    index = (FOLDER / "README.md").read_text("utf-8")
    assert all(f"({path.stem}.ipynb)" in index for path in SOURCES)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
class TestEachNotebook:
    def test_the_pair_agrees(self, path):
        """The `.ipynb` was written from the `.py` as it is now; otherwise run `just write-notebooks`."""
        cells = [
            (cell["cell_type"], "".join(cell["source"]).strip("\n"))
            for cell in notebook_of(path)["cells"]
        ]

        assert cells == cells_of_source(path)

    def test_every_cell_was_run(self, path):
        """The cells have their numbers, in order, and none of them ended with an error."""
        notebook = notebook_of(path)
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]

        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
        assert [out for out in outputs_of(notebook) if out["output_type"] == "error"] == []

    def test_outputs_are_private_to_nobody(self, path):
        """No output has a path of a machine, a key or a warning, and pictures stay small."""
        texts = [json.dumps(out) for out in outputs_of(notebook_of(path))]
        found = [
            hit[0] for text in texts if "image/png" not in text for hit in PRIVATE.finditer(text)
        ]

        assert found == []
        assert [text[:200] for text in texts if "WARNING" in text or "Warning:" in text] == []
        assert path.with_suffix(".ipynb").stat().st_size < 300_000

    def test_it_says_that_policies_play_the_models(self, path):
        """The banner is in its outputs, and the notebook asserts something."""
        shown = "".join(json.dumps(out) for out in outputs_of(notebook_of(path)))

        assert "Scripted policies, no language models" in shown
        assert "assert " in path.read_text("utf-8")

    def test_links_lead_to_files(self, path):
        """Links and pictures in the text are there, relative to the notebook."""
        text = "\n".join(text for kind, text in cells_of_source(path) if kind == "markdown")
        links = re.findall(r"\]\((?!https?:)([^)#\s]+)", text)

        assert [link for link in links if not (FOLDER / link).exists()] == []


def test_the_quickstart_runs(monkeypatch, capsys):
    """It is a program as well, with its assertions, and needs neither Jupyter nor a network."""
    for name in ("DSPY_RLM_MODEL", "DSPY_RLM_SUB_MODEL", "DSPY_RLM_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    before = dspy.settings.lm
    try:
        names = runpy.run_path(str(FOLDER / "01_quickstart.py"))
    finally:
        dspy.configure(lm=before)
    names["lms"].server.close()

    assert "yield" in names["prediction"].sections
    assert "Scripted policies" in capsys.readouterr().err
