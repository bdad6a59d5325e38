"""PDF: the text of each page, by PDFium."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dspy_rlm.inputs.converters.main import UnreadableError

# More pages than any book; a crafted page tree may name one page any number of times.
_MAX_PAGES = 50_000


def records(path: str, name: str) -> Iterator[dict[str, Any]]:
    """Yields a part for each page, numbered from 1."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise UnreadableError("it is encrypted; remove its password first") from error
        raise UnreadableError("it is damaged, or incomplete") from error
    pages = len(document)
    if pages > _MAX_PAGES:
        raise UnreadableError(f"it has {pages:,} pages; at most {_MAX_PAGES:,} are read")
    empty = broken = 0
    for number in range(pages):
        text = ""
        try:
            page = document[number]
            content = page.get_textpage()
            text = content.get_text_bounded().replace("\r\n", "\n").replace("\r", "\n")
            content.close()
            page.close()
        except pypdfium2.PdfiumError:
            broken += 1
        # PDFium marks a hyphen at the end of a line: with U+0002 in this form of the text, with U+FFFE in others.
        text = text.replace("\x02", "-").replace("\ufffe", "-")
        empty += not text.strip()
        yield {"part": f"page {number + 1}", "text": text.strip("\n")}
    if broken:
        yield {"note": f"{broken:,} of {pages:,} pages are damaged"}
    if pages and empty == pages:
        raise UnreadableError(
            f"it has no text: {'its page is an image' if pages == 1 else f'its {pages:,} pages are images'}. Run a text "
            "recognition (OCR) on it first, such as ocrmypdf"
        )
    if empty > broken:
        yield {"note": f"{empty:,} of {pages:,} pages have no text (images are not read)"}
