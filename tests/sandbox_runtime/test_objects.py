"""Texts on web servers and in object stores: read in ranges, known by their tags, with errors before any sandbox opens."""

from __future__ import annotations

import gzip
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from object_server import ObjectServer, serving

from sandbox_runtime import Directory, TextChangedError, TextFile
from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.index import TextIndex
from sandbox_runtime.texts.objects.kept_index import SUFFIX, dumped, load_into
from sandbox_runtime.texts.objects.ranges import PIECE_BYTES

pytest.importorskip("obstore", reason="obstore is not installed: pip install 'dspy-rlm[objects]'")

NEEDLE = "the needle"


@pytest.fixture(scope="module")
def running() -> Iterator[ObjectServer]:
    with serving() as server:
        yield server


@pytest.fixture
def server(running: ObjectServer) -> ObjectServer:
    """A server with nothing on it."""
    running.objects.clear()
    running.requests.clear()
    running.has_ranges, running.secret_query = True, ""
    return running


def long_text(lines: int = 200_000) -> str:
    return "".join(f"line {n:08d} of a long text, with an \u00e4\n" for n in range(lines)) + NEEDLE


class TestFiles:
    def test_a_file_address_is_its_path(self, tmp_path):
        """With its encoded characters decoded."""
        path = tmp_path / "a b.txt"
        path.write_text("content")

        text = TextFile(path.as_uri())

        assert text.path == path
        assert text.read(0, 100) == "content"

    def test_a_folder_address_is_its_path(self, tmp_path):
        """The same for directories."""
        (tmp_path / "a.txt").write_text("content")

        assert list(Directory(tmp_path.as_uri())) == ["a.txt"]

    def test_an_unknown_scheme_is_refused(self):
        """Before, it was the name of a local file."""
        with pytest.raises(ValueError, match="ftp:// addresses are not read"):
            TextFile("ftp://host/file.txt")


class TestRanges:
    def test_only_a_part_of_a_long_text_is_read(self, server):
        """Its beginning and a part of its middle and end, to recognize it and for the preview."""
        server.objects["long.txt"] = long_text().encode()

        text = TextFile(f"{server.url}/long.txt")
        preview = text.preview(2_000)

        assert text.size == f"{len(server.objects['long.txt']):,} bytes"
        assert preview.startswith("line 00000000")
        assert preview.endswith(NEEDLE)
        assert server.bytes_sent < 512 * 1024

    def test_a_search_reads_large_pieces_ahead(self, server):
        """Each request takes some tens of milliseconds in a real store."""
        content = long_text()
        server.objects["long.txt"] = content.encode()
        text = TextFile(f"{server.url}/long.txt")
        server.requests.clear()

        assert text.find(NEEDLE, 0, None, Deadline()) == len(content) - len(NEEDLE)

        pieces = -(-len(content.encode()) // PIECE_BYTES)
        assert len(server.requests) <= pieces + 2

    def test_all_operations_work_as_on_a_file(self, server, tmp_path):
        """They are the same code above another source of bytes."""
        content = long_text(20_000)
        server.objects["long.txt"] = content.encode()
        (tmp_path / "long.txt").write_text(content, "utf-8", newline="")

        def results(text: TextFile) -> list[Any]:
            deadline = Deadline()
            return [
                text.length(),
                text.read(5_000, 5_200),
                text.count("00", 0, None, deadline),
                text.rfind("line", 0, None, deadline),
                text.index.line_of_char(100_000, deadline),
                text.index.char_of_line(7_000, deadline),
            ]

        assert results(TextFile(f"{server.url}/long.txt")) == results(
            TextFile(tmp_path / "long.txt")
        )

    def test_compressed_and_converted_objects_are_read_as_text(self, server):
        """They are spooled to a temporary file as far as they are read."""
        server.objects["a.txt.gz"] = gzip.compress(b"compressed content")
        server.objects["b.txt"] = "of Windows".encode("utf-16")

        assert TextFile(f"{server.url}/a.txt.gz").read(0, 100) == "compressed content"
        assert TextFile(f"{server.url}/b.txt").read(0, 100) == "of Windows"

    def test_an_empty_object_is_an_empty_text(self, server):
        """No range of it can be requested."""
        server.objects["empty"] = b""

        assert TextFile(f"{server.url}/empty").length() == 0

    def test_a_signed_address_keeps_its_query_and_never_shows_it(self, server):
        """Each request needs it, and names and messages may be in prompts."""
        server.objects["folder/a b.txt"] = b"content"
        server.secret_query = "X-Amz-Signature=0123456789abcdef0123456789abcdef"
        url = f"{server.url}/folder/a%20b.txt?{server.secret_query}"

        text = TextFile(url)
        del server.objects["folder/a b.txt"]
        with pytest.raises(TextChangedError) as gone:
            text.read(0, 100)

        assert text.name == "a b.txt"
        assert "0123456789abcdef" not in str(gone.value) + repr(text)


class TestErrors:
    """Each is raised by the constructor, so before a sandbox opens or an LM is called."""

    def test_a_missing_object(self, server):
        """Named by its address."""
        with pytest.raises(FileNotFoundError, match=r"There is no object http.*/none\.txt"):
            TextFile(f"{server.url}/none.txt")

    def test_an_object_that_may_not_be_read(self, server):
        """A web server has no credentials of ours."""
        server.objects["a.txt"] = b"content"
        server.secret_query = "key=x"

        with pytest.raises(PermissionError, match="may not be read"):
            TextFile(f"{server.url}/a.txt")

    def test_a_server_without_ranges(self, server):
        """All of a text would be sent for each part of it."""
        server.objects["a.txt"] = b"content"
        server.has_ranges = False

        with pytest.raises(OSError, match="sends whole files only"):
            TextFile(f"{server.url}/a.txt")

    def test_a_server_that_cannot_be_reached(self):
        """After the retries of its client."""
        with pytest.raises(OSError, match="cannot be read"):
            TextFile("http://127.0.0.1:9/a.txt")

    def test_a_bucket_without_credentials(self, monkeypatch):
        """Says which variables name them."""
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")

        with pytest.raises(PermissionError, match="AWS_ACCESS_KEY_ID"):
            TextFile("s3://bucket/a.txt", storage_options={"aws_region": "us-east-1"})

    def test_a_web_server_is_no_directory(self, server):
        """It cannot be listed."""
        with pytest.raises(OSError, match="cannot be listed"):
            Directory(f"{server.url}/folder")


class TestChanges:
    def test_an_object_that_changes_is_noticed_at_the_next_read(self, server):
        """By its tag, also if its size is the same."""
        server.objects["a.txt"] = b"content"
        text = TextFile(f"{server.url}/a.txt")

        server.objects["a.txt"] = b"CONTENT"

        with pytest.raises(TextChangedError, match="has changed since it became an input"):
            text.read(0, 100)

    def test_an_object_travels_as_its_address(self, server):
        """With its tag, and without credentials."""
        server.objects["a.txt"] = b"content"
        text = TextFile(
            f"{server.url}/a.txt",
            storage_options=None,
        )

        again = pickle.loads(pickle.dumps(text))

        assert again.read(0, 100) == "content"
        assert again.stamp == text.stamp

    def test_another_process_refuses_an_object_that_has_changed(self, server):
        """It would answer about another text."""
        server.objects["a.txt"] = b"content"
        sent = pickle.dumps(TextFile(f"{server.url}/a.txt"))

        server.objects["a.txt"] = b"CONTENT"

        with pytest.raises(TextChangedError, match="written at another time"):
            pickle.loads(sent)

    def test_another_process_refuses_an_object_that_is_gone(self, server):
        """With its address."""
        server.objects["a.txt"] = b"content"
        sent = pickle.dumps(TextFile(f"{server.url}/a.txt"))

        server.objects.clear()

        with pytest.raises(TextChangedError, match="There was one when it was sent"):
            pickle.loads(sent)


class TestKeptIndex:
    def test_a_second_process_need_not_count_the_text_again(self, server):
        """The index is beside it, once all of it was read."""
        content = long_text(50_000)
        server.objects["long.txt"] = content.encode()
        assert TextFile(f"{server.url}/long.txt", index=True).length() == len(content)
        assert f"long.txt{SUFFIX}" in server.objects
        server.requests.clear()

        text = TextFile(f"{server.url}/long.txt", index=True)

        assert text.length() == len(content)
        assert text.index.line_of_char(len(content) - 1, Deadline()) == 50_001
        assert server.bytes_sent < 1024 * 1024

    def test_it_is_kept_beside_a_file_too(self, tmp_path):
        """And travels with it by choice."""
        path = tmp_path / "long.txt"
        path.write_text(long_text(20_000), "utf-8")
        length = TextFile(path, index=True).length()

        text = pickle.loads(pickle.dumps(TextFile(path, index=True)))

        assert text.index.complete
        assert text.length() == length

    def test_an_index_of_an_earlier_state_is_not_used(self, tmp_path):
        """It belongs to another text."""
        path = tmp_path / "a.txt"
        path.write_text("one\n" * 100_000)
        TextFile(path, index=True).length()
        path.write_text("three\n" * 100_000)

        text = TextFile(path, index=True)

        assert not text.index.complete
        assert text.length() == 600_000

    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(lambda data: data[:-9], id="truncated"),
            pytest.param(lambda data: b"x" + data, id="another-format"),
            pytest.param(lambda data: data.replace(b'"block_bytes": ', b'"block_bytes": 1'), id="blocks"),
            pytest.param(lambda data: data[: data.rindex(b"\n") + 1] + b"no zlib", id="no-zlib"),
            pytest.param(lambda data: b"", id="empty"),
        ],
    )  # fmt: skip
    def test_a_damaged_index_is_not_used(self, tmp_path, damage):
        """Whoever may write beside the text may have written it."""
        path = tmp_path / "a.txt"
        path.write_text("line\n" * 100_000)
        index = TextFile(path).index
        index.count_all(Deadline())
        data = dumped(index, "stamp")
        assert load_into(TextIndex(index.source), data, "stamp")

        assert not load_into(TextIndex(index.source), damage(data), "stamp")

    def test_an_index_with_impossible_numbers_is_not_used(self, tmp_path):
        """A block cannot have more characters than bytes."""
        path = tmp_path / "a.txt"
        path.write_text("line\n" * 100_000)
        index = TextFile(path).index
        index.count_all(Deadline())
        index.columns[1][1] += 10**6

        assert not load_into(TextIndex(index.source), dumped(index, "stamp"), "stamp")
