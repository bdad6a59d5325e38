"""The live view in notebooks: an output that is updated in place, and stays."""

from __future__ import annotations

import threading
from pathlib import Path

import live_events as live
import pytest

from dspy_rlm.live.notebook import NotebookDisplay, Place, notebook_place
from dspy_rlm.live.tree import Tree


class TestPlaces:
    def test_each_run_has_a_place(self):
        """A run fills its own output from its beginning to its result, in a thread of its own."""
        outputs: list[list[tuple[str, str]]] = []
        shown = threading.Event()

        def place() -> Place:
            pages: list[tuple[str, str]] = []
            outputs.append(pages)

            def show(page: str) -> None:
                pages.append((page, threading.current_thread().name))
                shown.set()

            return Place(show)

        display = NotebookDisplay(place)
        trees = [Tree(live.running(live.view(), "print(1)"), display) for _ in range(2)]
        for tree in trees:
            shown.clear()
            tree.begin()
            assert shown.wait(60)
        for tree in trees:
            live.ended(tree.root)
            tree.end()

        assert len(outputs) == 2
        for pages in outputs:
            assert "running code" in pages[0][0]
            assert "Submitted" in pages[-1][0]
            assert "answer" in pages[-1][0]
            assert {thread for _, thread in pages} == {"rlm-live"}

    def test_an_output_that_cannot_be_filled(self, caplog):
        """A notebook whose frontend is gone ends the view, and not the run."""

        def show(_page: str) -> None:
            raise OSError("no frontend")

        tree = Tree(live.running(live.view(), "print(1)"), NotebookDisplay(lambda: Place(show)))
        tree.begin()
        live.ended(tree.root)
        tree.end()

        assert tree.failed.wait(60)
        said = [r.message for r in caplog.records if "live view" in r.message]
        assert said == [
            "The live view has failed and is off; the run continues. OSError: no frontend"
        ]

    def test_no_notebook(self):
        """A program, and the shell of IPython in a terminal, are no notebooks."""
        assert notebook_place() is None


CELLS = (
    f"import sys\nsys.path.insert(0, {str(Path(__file__).parents[3])!r})",
    "from benchmarks.live_scene import play\np = play(True, 0.0)",
    "p",
)


@pytest.mark.nightly
def test_a_real_kernel(tmp_path, monkeypatch):
    """In Jupyter, the run is one output, updated in place, and the saved notebook has its result."""
    nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel")
    pytest.importorskip("ipykernel", reason="pip install nbclient ipykernel")
    import nbformat

    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    updates = []

    class Client(nbclient.NotebookClient):
        def process_message(self, msg, cell, index):
            updates.append(msg["msg_type"])
            return super().process_message(msg, cell, index)

    Client(notebook, timeout=120, kernel_name="python3").execute()
    pages = [
        output.data["text/html"]
        for cell in notebook.cells
        for output in cell.outputs
        if "text/html" in output.get("data", {})
    ]

    assert "update_display_data" in updates
    assert len(pages) == 2
    assert all("Submitted, 5 iterations" in page for page in pages)
    assert "<script" not in "".join(pages)
