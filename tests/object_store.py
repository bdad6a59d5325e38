"""A real object store for nightly tests: moto's S3 server, in a process of its own.

`tests/conftest.py` loads its fixtures for all tests.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

BUCKET = "texts"

# A loaded machine takes its time to start a Python with all of moto.
START_SECONDS = 120


@contextlib.contextmanager
def object_store() -> Iterator[dict[str, str]]:
    """Starts a store with an empty bucket; yields the environment variables of its clients."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(url).close()
                break
            except urllib.error.URLError:
                assert server.poll() is None, "the server has ended"
                assert time.monotonic() < end, "the server has not started"
                time.sleep(0.1)
        urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT")).close()
        yield {
            "AWS_ENDPOINT_URL": url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
        }
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def object_store_variables() -> Iterator[dict[str, str]]:
    """The environment variables of the clients of a running store."""
    pytest.importorskip("moto", reason="moto is not installed: pip install 'moto[server]'")
    with object_store() as variables:
        yield variables


@pytest.fixture
def bucket(object_store_variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The client of an empty bucket, whose credentials are in the environment."""
    obstore = pytest.importorskip("obstore", reason="obstore is not installed")
    for name, value in object_store_variables.items():
        monkeypatch.setenv(name, value)
    store = obstore.store.from_url(f"s3://{BUCKET}")
    delete_all(store)
    return store


def delete_all(store: Any) -> None:
    """Deletes all objects of a bucket."""
    for batch in store.list():
        for one in batch:
            store.delete(one["path"])
