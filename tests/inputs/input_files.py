"""Makes a small file of each kind that can be an input, by hand where the format allows it."""

from __future__ import annotations

import io
import json
import sqlite3
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
_LINKS = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_KINDS = "application/vnd.openxmlformats-officedocument"


def pdf(pages: Sequence[str]) -> bytes:
    """Returns a PDF with a line of text on each page."""
    kids = " ".join(f"{3 + 2 * at} 0 R" for at in range(len(pages)))
    objects = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>"]
    font = "<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"
    for at, text in enumerate(pages):
        box = "/MediaBox[0 0 300 300]"
        objects.append(
            f"<</Type/Page/Parent 2 0 R{box}/Contents {4 + 2 * at} 0 R/Resources{font}>>"
        )
        shown = f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET" if text else ""
        objects.append(f"<</Length {len(shown)}>>stream\n{shown}\nendstream")
    out, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    head = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    return f"{out}{head}trailer<</Size {len(objects) + 1}/Root 1 0 R>>\nstartxref\n{len(out)}\n%%EOF".encode()


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    """Returns a ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


def _package(main: str, kind: str, parts: Mapping[str, str], more_types: str = "") -> bytes:
    types = (
        f'<Types xmlns="{_TYPES}"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
        f'relationships+xml"/><Default Extension="xml" ContentType="application/xml"/><Override PartName="/{main}" '
        f'ContentType="{_KINDS}.{kind}.main+xml"/>{more_types}</Types>'
    )
    links = (
        f'<Relationships xmlns="{_LINKS}"><Relationship Id="r1" Type="{_OFFICE}/officeDocument" '
        f'Target="{main}"/></Relationships>'
    )
    return zipped({"[Content_Types].xml": types, "_rels/.rels": links, **parts})


def docx(document: str = "") -> bytes:
    """Returns a Word document with a heading, a paragraph and a table, or with another main part."""
    document = document or (
        f'<w:document xmlns:w="{_WORD}"><w:body><w:p><w:r><w:t>Hello Word</w:t></w:r></w:p><w:tbl><w:tr>'
        "<w:tc><w:p><w:r><w:t>Name</w:t></w:r></w:p></w:tc><w:tc><w:p><w:r><w:t>Ada</w:t></w:r></w:p></w:tc>"
        "</w:tr></w:tbl></w:body></w:document>"
    )
    return _package(
        "word/document.xml", "wordprocessingml.document", {"word/document.xml": document}
    )


def xlsx(sheet: str) -> bytes:
    """Returns a workbook with one sheet, whose content is XML."""
    workbook = (
        f'<workbook xmlns="{_SHEET}" xmlns:r="{_OFFICE}"><sheets><sheet name="Prices" sheetId="1" r:id="r1"/></sheets>'
        "</workbook>"
    )
    links = (
        f'<Relationships xmlns="{_LINKS}"><Relationship Id="r1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
        "</Relationships>"
    )
    more = f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_KINDS}.spreadsheetml.worksheet+xml"/>'
    parts = {
        "xl/workbook.xml": workbook,
        "xl/_rels/workbook.xml.rels": links,
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{_SHEET}">{sheet}</worksheet>',
    }
    return _package("xl/workbook.xml", "spreadsheetml.sheet", parts, more)


ROWS = (
    '<sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>tea, green</t></is></c><c r="B1"><v>3</v></c></row>'
    "</sheetData>"
)


def pptx() -> bytes:
    """Returns a presentation with a title, a text and notes on its slide."""
    import pptx as library

    show = library.Presentation()
    slide = show.slides.add_slide(show.slide_layouts[1])
    slide.shapes.title.text = "Results"
    slide.placeholders[1].text = "Sales are up"
    slide.notes_slide.notes_text_frame.text = "say it slowly"
    file = io.BytesIO()
    show.save(file)
    return file.getvalue()


def epub() -> bytes:
    """Returns a book with two chapters, which the package lists in another order than the archive."""
    page = "<!DOCTYPE html><html><body><h1>{}</h1><p>It was night.</p></body></html>"
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf"><manifest><item id="a" href="a.xhtml" '
        'media-type="application/xhtml+xml"/><item id="b" href="b%20c.xhtml" media-type="application/xhtml+xml"/>'
        '</manifest><spine><itemref idref="b"/><itemref idref="a"/></spine></package>'
    )
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
        'full-path="O/p.opf"/></rootfiles></container>'
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr("META-INF/container.xml", container)
        archive.writestr("O/p.opf", package)
        archive.writestr("O/a.xhtml", page.format("Second"))
        archive.writestr("O/b c.xhtml", page.format("First"))
    return file.getvalue()


HTML = (
    "<html><head><title>Shop</title><script>evil()</script><style>p{}</style></head><body><h1>Prices</h1>"
    '<p>All <b>new</b>, see <a href="/list">the list</a>.</p><table><tr><th>tea</th></tr><tr><td>3</td></tr></table>'
    "<!-- secret --></body></html>"
)

NOTEBOOK = json.dumps(
    {
        "cells": [
            {"cell_type": "markdown", "source": ["# Title\n", "text"]},
            {
                "cell_type": "code",
                "source": "1 + 1",
                "outputs": [
                    {"output_type": "stream", "text": ["working\n"]},
                    {"data": {"image/png": "AAAA", "text/plain": ["2"]}},
                    {"ename": "KeyError", "evalue": "'x'", "traceback": ["\u001b[31m"]},
                    {"data": {"image/png": "AAAA"}},
                ],
            },
        ],
        "nbformat": 4,
    }
)

MAIL = (
    "From: Ada <ada@example.com>\nTo: bob@example.com\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\n"
    "Date: Mon, 1 Jan 2024 10:00:00 +0000\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
    "--b\nContent-Type: text/plain; charset=latin-1\nContent-Transfer-Encoding: quoted-printable\n\nSch=F6n\n"
    "--b\nContent-Type: application/pdf\nContent-Disposition: attachment; filename=bill.pdf\n"
    "Content-Transfer-Encoding: base64\n\nJVBERi0=\n--b--\n"
)

MBOX = "From a@b Mon\nSubject: one\n\nx\n>From here\n\nFrom c@d Mon\nSubject: two\n\nz\n"


def sqlite(path: Path) -> None:
    """Writes a database with a table and a view."""
    connection = sqlite3.connect(path)
    connection.executescript(
        "create table prices(name text, price real, photo blob); insert into prices values('tea', 3.5, x'00ff');"
        "insert into prices values('cake', null, null); create view names as select name from prices;"
    )
    connection.close()


def tarred(members: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> bytes:
    """Returns a tar archive with files and symbolic links."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return file.getvalue()
