"""Texts in a real object store: moto's S3 server, in a process of its own."""

from __future__ import annotations

import pickle

import pytest

from sandbox_runtime import Directory, TextChangedError, TextFile, open_session
from sandbox_runtime.texts.objects.kept_index import SUFFIX
from tests.object_store import BUCKET

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(300)]


def test_a_text_is_read_in_ranges_and_its_index_is_kept(bucket):
    """A second process finds the positions beside the object."""
    content = "".join(f"line {n}\n" for n in range(300_000))
    bucket.put("logs/long.txt", content.encode())
    url = f"s3://{BUCKET}/logs/long.txt"

    assert TextFile(url, index=True).length() == len(content)
    text = pickle.loads(pickle.dumps(TextFile(url, index=True)))

    assert bucket.head(f"logs/long.txt{SUFFIX}")["size"] > 0
    assert text.index.complete
    assert text.read(len(content) - 7, len(content)) == content[-7:]


def test_a_changed_object_is_refused(bucket):
    """By its tag, in this process and in another."""
    bucket.put("a.txt", b"content")
    text = TextFile(f"s3://{BUCKET}/a.txt")
    sent = pickle.dumps(text)

    bucket.put("a.txt", b"CONTENT")

    with pytest.raises(TextChangedError):
        text.read(0, 10)
    with pytest.raises(TextChangedError):
        pickle.loads(sent)


def test_a_directory_of_objects_is_searched_by_cells(bucket):
    """As a folder is. Hidden names are left out."""
    for number in range(30):
        bucket.put(f"logs/day-{number:02d}.txt", f"start\nerror {number}\n".encode())
    bucket.put("logs/.hidden", b"error")
    bucket.put("logs/picture.png", b"\x89PNG\r\n\x1a\n")
    bucket.put("other.txt", b"error")
    folder = Directory(f"s3://{BUCKET}/logs")
    code = """
    print(len(folder), folder.paths()[:2])
    print(folder["day-07.txt"][6:13])
    print(len(folder.grep("error")), [hit.path for hit in folder.grep("error 1[0-2]")])
    """

    with open_session() as session:
        session.assign({"folder": folder})
        done = session.run_cell("\n".join(line.strip() for line in code.strip().splitlines()))

    assert done.output.splitlines()[:3] == [
        "31 ['day-00.txt', 'day-01.txt']",
        "error 7",
        "30 ['day-10.txt', 'day-11.txt', 'day-12.txt']",
    ]


def test_a_directory_travels_as_its_address(bucket):
    """Another process lists it again, and refuses one with other objects."""
    bucket.put("logs/a.txt", b"a")
    folder = Directory(f"s3://{BUCKET}/logs", "*.txt")
    sent = pickle.dumps(folder)
    assert list(pickle.loads(sent)) == ["a.txt"]

    bucket.put("logs/a.txt", b"b")

    with pytest.raises(TextChangedError):
        pickle.loads(sent)
    with pytest.raises(TextChangedError):
        folder.file("a.txt").read(0, 1)


def test_nothing_below_an_address_is_an_error(bucket):
    """It is misspelt."""
    with pytest.raises(FileNotFoundError, match="There are no objects below s3://texts/none"):
        Directory(f"s3://{BUCKET}/none")


def test_a_missing_object_is_an_error(bucket):
    """So is a missing bucket."""
    with pytest.raises(FileNotFoundError, match="There is no object s3://texts/none"):
        TextFile(f"s3://{BUCKET}/none")
    with pytest.raises(FileNotFoundError, match="There is no object s3://nobucket/none"):
        TextFile("s3://nobucket/none")


def test_credentials_passed_as_options_are_not_sent(bucket, monkeypatch):
    """The other process has its own."""
    bucket.put("a.txt", b"content")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    options = {"aws_access_key_id": "key-in-options", "aws_secret_access_key": "secret-in-options"}
    text = TextFile(f"s3://{BUCKET}/a.txt", storage_options=options)

    sent = pickle.dumps(text)

    assert text.read(0, 10) == "content"
    assert b"in-options" not in sent


def test_memory_stays_bounded(bucket):
    """A search through a text of any size keeps a few pieces of it."""
    import tracemalloc

    bucket.put("long.txt", b"some words of a long line\n" * 8_000_000)
    text = TextFile(f"s3://{BUCKET}/long.txt")
    tracemalloc.start()

    count = text.length()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 26 * 8_000_000
    assert peak < 110 * 2**20
