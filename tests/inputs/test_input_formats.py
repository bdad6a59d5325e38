"""Each format as an input: what its value is, and what its text is."""

from __future__ import annotations

import bz2
import datetime
import decimal
import gzip
import importlib.util
import lzma
from pathlib import Path

import input_files as files
import pytest

from dspy_rlm.errors import InputError
from dspy_rlm.sources import InputBounds, load, load_texts
from sandbox_runtime import Directory, TextFile

NEEDED = ("bs4", "duckdb", "mammoth", "markdownify", "pptx", "pypdfium2", "python_calamine")
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, NEEDED)), reason='needs the extra "files"'
)


@pytest.fixture
def write(tmp_path):
    """Writes a file and returns its path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


class TestDocuments:
    def test_a_pdf_keeps_its_page_numbers(self, write):
        """The text of each page stands below its number, so that an answer can cite it."""
        text = load(write("report", files.pdf(["Hello there", "", "The secret is 42"])))

        assert text == "[page 1]\nHello there\n\n[page 2]\n\n\n[page 3]\nThe secret is 42\n"

    def test_pages_without_text_are_said(self, write):
        """A page that is an image has no text; a PDF of images alone is refused with what to do."""
        texts = load_texts([write("a.pdf", files.pdf(["x", ""]))])
        assert texts.notes == ("a.pdf: 1 of 2 pages have no text (images are not read)",)
        with pytest.raises(InputError, match=r"its 2 pages are images.*OCR"):
            load(write("scan.pdf", files.pdf(["", ""])))

    def test_word(self, write):
        """A Word document is Markdown, with its tables."""
        text = load(write("a.docx", files.docx()))

        assert text == "Hello Word\n\n| Name | Ada |\n| --- | --- |\n"

    def test_slides_keep_their_numbers_and_notes(self, write):
        """Each slide has its number, its title, its text, and the notes of the speaker."""
        text = load(write("a.pptx", files.pptx()))

        assert text == "[slide 1]\n# Results\nSales are up\n\nNotes: say it slowly\n"

    def test_sheets_are_csv(self, write):
        """Each sheet of a workbook is CSV below its name."""
        assert load(write("a.xlsx", files.xlsx(files.ROWS))) == '[sheet Prices]\n"tea, green",3\n'

    def test_a_book_is_read_in_its_own_order(self, write):
        """The chapters of an EPUB come in the order of its spine."""
        text = load(write("a.epub", files.epub()))

        assert (
            text
            == "[chapter 1]\n# First\n\nIt was night.\n\n[chapter 2]\n# Second\n\nIt was night.\n"
        )

    def test_html_is_markdown_without_scripts(self, write):
        """A page has its title, headings, links and tables; scripts, styles and comments are gone."""
        assert load(write("a.html", files.HTML)) == (
            "# Shop\n\n# Prices\n\nAll **new**, see [the list](/list).\n\n| tea |\n| --- |\n| 3 |\n"
        )

    def test_the_content_decides_before_the_name(self, write):
        """A PDF is a PDF whatever its name, and a program that mentions one is a text."""
        assert load(write("page.txt", files.pdf(["x"]))).startswith("[page 1]")
        assert load(write("make.py", "start = '%PDF-1.4'\n")) == "start = '%PDF-1.4'\n"
        assert load(write("duck.txt", "I saw a DUCK there today")).startswith("I saw")

    def test_a_large_document_stays_on_disk(self, write):
        """Beyond the bound for memory, the converted text is a lazy one."""
        bounds = InputBounds(lazy_bytes=20)
        text = load(write("a.pdf", files.pdf(["Hello there"])), bounds=bounds)

        assert isinstance(text, TextFile)
        assert text.read(0, 100) == "[page 1]\nHello there\n"
        assert text.name == "a.pdf"


class TestTables:
    def test_csv_rows_have_types_where_nothing_is_lost(self, write):
        """Numbers are numbers; codes with leading zeros stay text; an empty cell of a column of numbers is None."""
        rows = load(write("a.csv", "name,n,zip,x\nAda,1,007,1.5\n\nBob,,010,2\n"))

        assert rows == [
            {"name": "Ada", "n": 1, "zip": "007", "x": 1.5},
            {"name": "Bob", "n": None, "zip": "010", "x": 2.0},
        ]

    @pytest.mark.sampled(5)
    @pytest.mark.parametrize(
        ("name", "content", "rows"),
        [
            ("a.csv", "a;b\n1,5;x\n2,5;y\n", [{"a": "1,5", "b": "x"}, {"a": "2,5", "b": "y"}]),
            ("a.csv", "a|b\n1|2\n", [{"a": 1, "b": 2}]),
            ("a.tsv", "a\tb, c\n1\t2\n", [{"a": 1, "b, c": 2}]),
            ("a.csv", "a,a,\n1,2,3\n", [{"a": 1, "a_2": 2, "column_3": 3}]),
            ("a.csv", 'a\n"x\ny"\n', [{"a": "x\ny"}]),
            ("a.csv", "größe\n1\n".encode("utf-16"), [{"größe": 1}]),
            ("a.csv", "größe\nü\n".encode("latin-1"), [{"größe": "ü"}]),
            ("a.csv", "\ufeffa\n1\n", [{"a": 1}]),
            ("a.csv", "a,b\n", []),
        ],
    )
    def test_dialects(self, write, name, content, rows):
        """The delimiter, the encoding and the names of columns are found out."""
        assert load(write(name, content)) == rows

    def test_ragged_rows_are_said(self, write):
        """Missing cells are None, cells too many are left out, and a note says how many rows that concerns."""
        path = write("a.csv", "a,b\n1\n1,2,3\n")
        from dspy_rlm.inputs.variables import load_variables

        (variable,) = load_variables([path], None, InputBounds())
        assert variable.value == [{"a": 1, "b": None}, {"a": 1, "b": 2}]
        assert "2 rows have more or fewer cells" in variable.notes[0]

    def test_sqlite(self, tmp_path):
        """A database is a dict of its tables and views."""
        files.sqlite(tmp_path / "shop.db")

        assert load(tmp_path / "shop.db") == {
            "prices": [
                {"name": "tea", "price": 3.5, "photo": b"\x00\xff"},
                {"name": "cake", "price": None, "photo": None},
            ],
            "names": [{"name": "tea"}, {"name": "cake"}],
        }
        assert load(tmp_path / "shop.db", as_text=True) == (
            "[table prices]\nname,price,photo\ntea,3.5,2 bytes\ncake,,\n\n[table names]\nname\ntea\ncake\n"
        )

    def test_duckdb_and_parquet(self, tmp_path):
        """Their types are Python's: dates, decimals, lists and structs."""
        import duckdb

        row = {
            "i": 7,
            "day": datetime.date(2024, 1, 2),
            "price": decimal.Decimal("1.50"),
            "tags": ["a"],
            "more": {"t": "date"},
        }
        with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
            connection.execute(
                "create table t as select 7 i, date '2024-01-02' \"day\", 1.5::decimal(9, 2) price, ['a'] tags, "
                "{'t': 'date'} more"
            )
            connection.execute(f"copy t to '{tmp_path}/t.parquet'")

        assert load(tmp_path / "shop.duckdb") == {"t": [row]}
        assert load(tmp_path / "t.parquet") == [row]

    def test_json_lines(self, write):
        """Each line is a record; a line that is none is named."""
        assert load(write("a.jsonl", '{"a": 1}\n\n[2]\n')) == [{"a": 1}, [2]]
        with pytest.raises(InputError, match=r"line 2 is not JSON .*rename the file"):
            load(write("b.ndjson", '{"a": 1}\nnonsense\n'))

    def test_tables_beyond_memory_are_text(self, write):
        """A table or records that are too large for memory stay on disk as text, and that is said."""
        bounds = InputBounds(lazy_bytes=10, parsed_bytes=10)
        rows = load(write("a.csv", "a,b\n" + "1,2\n" * 100), bounds=bounds)
        records = load(write("a.jsonl", '{"a": 1}\n' * 100), bounds=bounds)

        assert isinstance(rows, TextFile)
        assert rows.read(0, 8) == "a,b\n1,2\n"
        assert isinstance(records, TextFile)


class TestMailAndNotebooks:
    def test_mail(self, write):
        """A message has its headers, decoded, its text, and the names of its attachments."""
        (message,) = load(write("a.eml", files.MAIL))

        assert message == {
            "from": "Ada <ada@example.com>",
            "to": "bob@example.com",
            "cc": "",
            "subject": "Grüße",
            "date": datetime.datetime(2024, 1, 1, 10, tzinfo=datetime.UTC),
            "text": "Schön",
            "attachments": ["bill.pdf"],
        }

    def test_a_mailbox(self, write):
        """Messages are numbered, and quoted separators are restored."""
        messages = load(write("a.mbox", files.MBOX))

        assert [(one["number"], one["subject"], one["text"]) for one in messages] == [
            (1, "one", "x\nFrom here"),
            (2, "two", "z"),
        ]
        assert "[message 2]\nSubject: two\n\nz\n" in load(write("a.mbox", files.MBOX), as_text=True)

    def test_a_notebook(self, write):
        """Cells have their numbers, their sources, and the text of their outputs; images are named only."""
        assert load(write("a.ipynb", files.NOTEBOOK)) == [
            {"number": 1, "type": "markdown", "source": "# Title\ntext", "outputs": ""},
            {
                "number": 2,
                "type": "code",
                "source": "1 + 1",
                "outputs": "working\n2\nKeyError: 'x'\n[image/png]",
            },
        ]
        text = load(write("a.ipynb", files.NOTEBOOK), as_text=True)
        assert "[cell 2, code]\n1 + 1\n[output]\nworking\n2\n" in text


class TestCompressed:
    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
    def test_a_table_in_it_is_a_table(self, write, compress):
        """The compressed file is read like one that is not compressed, by its name without the suffix."""
        assert load(write("a.csv.gz", compress(b"a\n1\n"))) == [{"a": 1}]
        assert load(write("a.pdf.gz", compress(files.pdf(["x"])))).startswith("[page 1]")

    def test_zstandard(self, write):
        """So is Zstandard, where Python has it."""
        zstd = pytest.importorskip("backports.zstd")

        assert load(write("a.txt.zst", zstd.compress(b"hello"))) == "hello"

    def test_a_large_text_in_it_stays_on_disk(self, write):
        """A small file can expand to any size: beyond the bound, it is read as far as needed."""
        text = load(
            write("a.gz", gzip.compress(b"a" * 10_000)), bounds=InputBounds(lazy_bytes=1000)
        )

        assert isinstance(text, TextFile)

    def test_compressed_twice(self, write):
        """A second layer is refused."""
        data = gzip.compress(gzip.compress(b"x" * 100))
        with pytest.raises(InputError, match="compressed twice"):
            load(write("a.gz.gz", data))


class TestArchives:
    def test_the_members_are_files(self, write):
        """A ZIP archive is a dict of texts: documents in it are converted, tables stay as they stand."""
        archive = files.zipped(
            {
                "a/b.txt": "text",
                "c.pdf": files.pdf(["x"]),
                "d.csv": "a\n1\n",
                "inner.zip": files.zipped({"x": "y"}),
                ".hidden": "x",
                "__MACOSX/a": "x",
                "e.html": "<p>source</p>",
            }
        )

        texts = load_texts([write("a.zip", archive)])
        assert dict(texts.by_path) == {
            "a/b.txt": "text",
            "c.pdf": "[page 1]\nx\n",
            "d.csv": "a\n1\n",
            "e.html": "<p>source</p>",
        }
        assert texts.skipped_summary.startswith("2 hidden (2 bytes), 1 archive (")

    @pytest.mark.sampled(2)
    @pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "unnamed"])
    def test_tar(self, write, name):
        """So is a tar archive, compressed or not, whatever its name."""
        archive = files.tarred({"./a.txt": b"1", "b.txt": b"old", "b.txt ": b"x"})
        data = gzip.compress(archive) if name != "a.tar" else archive

        assert load(write(name, data))["a.txt"] == "1"

    def test_paths_that_lead_out_are_left_out(self, write, tmp_path):
        """Nothing is ever written below a name of an archive. Paths with `..` and links are left out and counted."""
        members = {
            "../evil": b"1",
            "/etc/absolute": b"2",
            "C:\\x\\y": b"3",
            "a/../../b": b"4",
            "ok": b"5",
        }
        tar = load_texts([write("a.tar", files.tarred(members, {"link": "/etc/passwd"}))])
        zipped = load_texts([write("a.zip", files.zipped(members))])

        assert dict(tar.by_path) == {"etc/absolute": "2", "ok": "5", "x/y": "3"}
        assert tar.skipped_summary == "2 unsafe path, 1 link"
        assert dict(zipped.by_path) == dict(tar.by_path)
        assert not (tmp_path.parent / "evil").exists()

    def test_an_archive_without_texts(self, write):
        """It is an error that names what was left out."""
        with pytest.raises(InputError, match=r"There is no text in .*a\.zip\. Skipped: 1 binary"):
            load(write("a.zip", files.zipped({"logo.png": b"\x89PNG\0\0"})))


class TestFolders:
    def test_documents_in_a_folder_are_converted(self, write, tmp_path):
        """In a folder every file is a text: documents are converted, what is readable stays as it stands."""
        write("d/a.pdf", files.pdf(["x"]))
        write("d/sub/page.html", "<p>source</p>")
        write("d/b.csv", "a\n1\n")
        write("d/logo.png", b"\x89PNG\0\0")
        write("d/broken.docx", files.docx()[:300])

        texts = load_texts([tmp_path / "d"])
        assert dict(texts.by_path) == {
            "a.pdf": "[page 1]\nx\n",
            "b.csv": "a\n1\n",
            "sub/page.html": "<p>source</p>",
        }
        assert sorted(one.reason for one in texts.skipped) == ["binary", "unreadable"]
        assert any(note.startswith("broken.docx is left out: ") for note in texts.notes)

    def test_ignored_files_are_left_out(self, write, tmp_path):
        """Files that `.gitignore` names are left out unless `gitignore` is false."""
        for name in (".git/HEAD", "a.log", "b.txt"):
            write(name, "x")
        write(".gitignore", "*.log\n")

        assert list(load(tmp_path)) == ["b.txt"]
        assert list(load(tmp_path, gitignore=False)) == ["a.log", "b.txt"]
        assert "1 ignored by .gitignore (1 bytes)" in load_texts([tmp_path]).skipped_summary

    def test_patterns(self, write, tmp_path):
        """A pattern that the shell did not expand names files, as if each was named."""
        for name in ("a.csv", "sub/b.csv", "sub/deep/c.csv", "sub/d.txt"):
            write(name, "a\n1\n")

        assert list(load(tmp_path / "*.csv")) == ["a.csv"]
        assert list(load(tmp_path / "**/*.csv")) == ["a.csv", "sub/b.csv", "sub/deep/c.csv"]
        assert load(tmp_path / "sub/*.csv") == {"b.csv": [{"a": 1}]}
        with pytest.raises(InputError, match="no file matches it"):
            load(tmp_path / "*.pdf")
        with pytest.raises(InputError, match="there is no folder"):
            load(tmp_path / "nothing/*.pdf")

    def test_a_large_folder_stays_on_disk(self, write, tmp_path):
        """Beyond the bound it is a `Directory`; `load_texts` has lazy texts, and so has an archive."""
        write("a.txt", "x" * 1000)
        bounds = InputBounds(folder_bytes=100)

        assert isinstance(load(tmp_path, bounds=bounds), Directory)
        texts = load_texts([tmp_path], bounds=bounds)
        assert isinstance(texts.by_path["a.txt"], TextFile)
        archive = load(write("b.zip", files.zipped({"a.txt": "x" * 1000})), bounds=bounds)
        assert isinstance(archive["a.txt"], TextFile)
        assert archive["a.txt"].read(0, 3) == "xxx"


def test_a_guessed_encoding_is_said(write):
    """A text that is not UTF-8 is read as Windows-1252, with a note."""
    texts = load_texts([write("a.txt", "größer".encode("latin-1"))])

    assert texts.by_path["a.txt"] == "größer"
    assert texts.notes == ("a.txt: not UTF-8, read as windows-1252",)


def test_without_the_extra(write, monkeypatch):
    """Without the package that reads it, a document is refused with the command that installs it."""
    from dspy_rlm.inputs import converting

    shadow = write("shadow/pypdfium2.py", "raise ModuleNotFoundError(name='pypdfium2')")
    monkeypatch.setattr(converting, "_MODULES", [*converting._MODULES, shadow])
    path = write("a.pdf", files.pdf(["x"]))

    with pytest.raises(
        InputError, match=r'needs the package pypdfium2.*pip install "dspy-rlm\[files\]"'
    ):
        load(path)
