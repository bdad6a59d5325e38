"""Questions about a PDF of hundreds of pages, answered with page numbers that are checked.

    python examples/bulletin.py                          # 457 pages, typeset from Python's reference manual
    python examples/bulletin.py FILE.pdf -q "What is the rule for `assignment`?"

Needs `pip install "dspy-rlm[files]"`. Scripted policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import argparse
import ctypes
import re
import tempfile
import textwrap
from pathlib import Path

import dspy
from real_text import manual

import dspy_rlm
from dspy_rlm import Quote
from dspy_rlm.sources import load
from dspy_rlm.testing import Action, choose_models, fields, policy


class AskBulletin(dspy.Signature):
    """Answer a question about a document. Above the text of each page stands its number, as in `[page 3]`."""

    bulletin: str = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    pages: list[int] = dspy.OutputField(desc="the page of each quote, in the same order")
    evidence: list[Quote] = dspy.OutputField(desc="what the answer relies on, verbatim")


def quotes_are_on_their_pages(bulletin, pages, evidence):
    """Each quote is on the page that is given for it."""
    if not evidence or len(pages) != len(evidence):
        return f"{len(evidence)} quotes need as many pages, not {len(pages)}"
    parts = re.split(r"^\[page (\d+)\]$", bulletin, flags=re.MULTILINE)
    text_of = {int(number): text for number, text in zip(parts[1::2], parts[2::2], strict=True)}
    for page, quote in zip(pages, evidence, strict=True):
        if quote.text not in text_of.get(page, ""):
            right = [number for number, text in text_of.items() if quote.text in text]
            return f"{quote.text[:40]!r} is not on page {page}, but on {right[:5]}"
    return None


PAGES = r"""
import re
parts = re.split(r'^\[page (\d+)\]$', bulletin, flags=re.M)
pages = {int(number): text for number, text in zip(parts[1::2], parts[2::2])}
word = re.search(r'`(\w+)`', question)[1]
hits = sorted((n for n in pages if word in pages[n].lower()), key=lambda n: -pages[n].lower().count(word))[:20]
print(len(pages), 'pages;', word, 'is on', hits)
"""

READ = """
rows = predict_batched(
    'page, question -> quote: Quote | None', [{'page': pages[n]} for n in hits], question=question
)
found = [(n, row.quote.text) for n, row in zip(hits, rows) if row in rows.ok and row.quote]
for n, quote in found[:3]:
    print(n, repr(quote))
"""


@policy
def root(task):
    """Plays the root LM. It first counts pages from 0, as Python does, and is corrected."""
    yield Action("Split it into pages, and find the word.", PAGES)
    yield Action("The sub-LM reads the pages with most mentions.", READ)
    yield Action(
        "Submit the first three.",
        "best = found[:3]\nSUBMIT(answer=best[0][1], pages=[n - 1 for n, _ in best], evidence=[q for _, q in best])",
    )
    yield Action(
        "Pages count from 1.",
        "SUBMIT(answer=best[0][1], pages=[n for n, _ in best], evidence=[q for _, q in best])",
    )


@fields
def sub(inputs):
    """Plays the sub-LM: quotes the first line of prose with the word in question."""
    word = inputs["question"].split("`")[1]
    lines = [
        line
        for line in inputs["page"].splitlines()
        if word in line.lower() and len(line.split()) > 6
    ]
    return {"quote": {"text": lines[0].strip()} if lines else None}


def write_pdf(path: Path, pages: int) -> None:
    """Typesets the manual on so many pages, with PDFium."""
    import pypdfium2
    import pypdfium2.raw as pdfium

    text = "\n\n".join(manual().values()).encode("ascii", "replace").decode()
    lines = [part for line in text.splitlines() for part in textwrap.wrap(line, 90) or [""]]
    size = -(-len(lines) // pages)
    document = pypdfium2.PdfDocument.new()
    for number in range(pages):
        page = document.new_page(595, 842)
        for at, line in enumerate(lines[number * size : (number + 1) * size]):
            if line.strip():
                piece = pdfium.FPDFPageObj_NewTextObj(document, b"Helvetica", 9.0)
                wide = ctypes.create_string_buffer(f"{line}\0".encode("utf-16-le"))
                pdfium.FPDFText_SetText(piece, ctypes.cast(wide, pdfium.FPDF_WIDESTRING))
                pdfium.FPDFPageObj_Transform(piece, 1, 0, 0, 1, 50, 790 - 11 * at)
                pdfium.FPDFPage_InsertObject(page, piece)
        pdfium.FPDFPage_GenerateContent(page)
    document.save(path)


def ask(path: Path, question: str, models) -> dspy.Prediction:
    """Answers a question about a PDF."""
    rlm = dspy_rlm.RLM(AskBulletin, sub_lm=models.sub, validators=[quotes_are_on_their_pages])
    with dspy.context(lm=models.root):
        return rlm(bulletin=load(path), question=question)


def main(arguments: list[str] | None = None) -> dspy.Prediction:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pdf", nargs="?", type=Path)
    parser.add_argument("-q", "--question", default="What is the rule for `assignment`?")
    parser.add_argument("--pages", type=int, default=457)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        path = options.pdf or Path(temporary) / "bulletin.pdf"
        if options.pdf is None:
            write_pdf(path, options.pages)
            print(f"{options.pages} pages, {path.stat().st_size:,} bytes")
        prediction = ask(path, options.question, choose_models(root, sub))
    print(prediction.answer)
    for page, quote in zip(prediction.pages, prediction.evidence, strict=True):
        print(f"  page {page}: {quote.text!r}")
    return prediction


if __name__ == "__main__":
    main()
