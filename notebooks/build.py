"""Runs the notebooks and writes them with their outputs: `python notebooks/build.py [NUMBER ...]`.

The text of a notebook is its `.py` file, in jupytext's percent format. The `.ipynb` beside it is written by this program alone, so that
cell ids are stable and nothing of the machine stays in it. Needs `pip install -e ".[notebooks]"`.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def build(source: Path) -> float:
    """Runs one notebook and writes it; returns the seconds that it took."""
    started = time.perf_counter()
    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata = {}
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    client = NotebookClient(
        notebook, timeout=120, record_timing=False, resources={"metadata": {"path": str(HERE)}}
    )
    client.execute()
    for cell in notebook.cells:
        cell.metadata = {}
        merge_streams(cell)
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    nbformat.validate(notebook)
    nbformat.write(notebook, source.with_suffix(".ipynb"))
    return time.perf_counter() - started


def merge_streams(cell: nbformat.NotebookNode) -> None:
    """Joins adjacent outputs to the same stream, which a kernel splits where it likes."""
    merged: list[nbformat.NotebookNode] = []
    for output in cell.get("outputs", []):
        output.pop("transient", None)
        last = merged[-1] if merged else None
        if (
            last is not None
            and output.output_type == last.output_type == "stream"
            and output.name == last.name
        ):
            last.text += output.text
        elif (
            output.get("data", {}).keys() == {"text/html", "text/plain"}
            and not output.data["text/html"]
        ):
            continue
        else:
            merged.append(output)
    if "outputs" in cell:
        cell.outputs = merged


def main(numbers: list[str]) -> None:
    """Builds the notebooks with these numbers, or all."""
    os.environ.pop("DSPY_RLM_MODEL", None)
    for source in sorted(HERE.glob("[0-9]*.py")):
        if not numbers or source.name[:2] in numbers:
            print(f"{source.stem}: {build(source):.1f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
