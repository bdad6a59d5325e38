"""PPTX: the text, the tables and the notes of each slide, by python-pptx."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dspy_rlm.inputs.converters.zips import checked_zip

_MAX_GROUPS = 50


def records(path: str, name: str) -> Iterator[dict[str, Any]]:
    """Yields a part for each slide, numbered from 1."""
    import pptx

    checked_zip(path)
    for number, slide in enumerate(pptx.Presentation(path).slides, 1):
        lines = list(_lines(slide.shapes, 0))
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            notes = slide.notes_slide.notes_text_frame.text.strip()
            lines += ["", f"Notes: {notes}"] if notes else []
        yield {"part": f"slide {number}", "text": "\n".join(lines).replace("\v", "\n").strip("\n")}


def _lines(shapes: Any, depth: int) -> Iterator[str]:
    title = getattr(shapes, "title", None)
    for shape in shapes:
        if hasattr(shape, "shapes") and depth < _MAX_GROUPS:
            yield from _lines(shape.shapes, depth + 1)
        elif getattr(shape, "has_table", False):
            yield ""
            for at, row in enumerate(shape.table.rows):
                cells = [" ".join(cell.text.split()).replace("|", "\\|") for cell in row.cells]
                yield f"| {' | '.join(cells)} |"
                if at == 0:
                    yield f"|{' --- |' * len(cells)}"
            yield ""
        elif getattr(shape, "has_chart", False):
            yield from _chart(shape.chart)
        elif shape.has_text_frame and shape.text_frame.text.strip():
            is_title = title is not None and shape.shape_id == title.shape_id
            yield f"# {shape.text_frame.text.strip()}" if is_title else shape.text_frame.text


def _chart(chart: Any) -> Iterator[str]:
    for plot in chart.plots:
        names = [str(name) for name in plot.categories]
        for series in plot.series:
            pairs = [f"{name}={value}" for name, value in zip(names, series.values, strict=False)]
            yield f"Chart {series.name}: {', '.join(pairs)}"
