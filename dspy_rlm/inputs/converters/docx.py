"""DOCX to Markdown: mammoth converts it to HTML, `html.py` converts that to text. Macros and linked files are not read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dspy_rlm.inputs.converters.html import markdown
from dspy_rlm.inputs.converters.zips import checked_zip


def records(path: str, name: str) -> Iterator[dict[str, Any]]:
    """Yields one part. A DOCX has no pages: they exist only when it is rendered."""
    import mammoth

    checked_zip(path)
    with open(path, "rb") as file:  # noqa: PTH123
        # Images have no text.
        result = mammoth.convert_to_html(
            file, convert_image=mammoth.images.img_element(lambda image: {"src": ""})
        )
    yield {"part": "", "text": markdown(result.value)}
