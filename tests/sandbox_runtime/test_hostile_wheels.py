"""Wheels and indexes that attack the host beside execution: archives, names, costs, and credentials of the user.

The archives are read by our own code; what pip itself reads comes over real HTTP.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import json
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from package_index import make_wheel, sha256

from sandbox_runtime import PackageError
from sandbox_runtime.packages import wheels
from sandbox_runtime.packages.resolve import resolve

JSON_PAGE = "application/vnd.pypi.simple.v1+json"
HTML_PAGE = "text/html"

Answer = tuple[int, dict[str, str], bytes]


@contextlib.contextmanager
def server(answer: Callable[[str], Answer]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Serves what `answer` returns for a path; yields the address, and the requests with their Authorization."""
    seen: list[tuple[str, str]] = []

    class Hostile(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers.get("Authorization", "")))
            status, headers, body = answer(self.path)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}", seen
        finally:
            serving.shutdown()
            thread.join()


def page(wheel: Path, url: str, name: str = "") -> bytes:
    """A page of the JSON index that lists one wheel."""
    file = {"filename": name or wheel.name, "url": url, "hashes": {"sha256": sha256(wheel)}}
    return json.dumps({"meta": {"api-version": "1.0"}, "name": "thing", "files": [file]}).encode()


def archive(
    folder: Path, method: int = zipfile.ZIP_DEFLATED, files: dict[str, bytes] | None = None
) -> Path:
    """A wheel with files that are packed by a method, and metadata that is not."""
    path = folder / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", method) as target:
        for name, data in (files or {"thing.py": b"x = 1\n" * 100}).items():
            target.writestr(name, data)
        metadata = b"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n"
        target.writestr("thing-1.0.dist-info/METADATA", metadata, zipfile.ZIP_STORED)
    return path


class TestArchives:
    """Archives that make a reader work, or say what it should not repeat."""

    @pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
    def test_a_method_of_packing_that_no_wheel_has(self, tmp_path, method):
        """LZMA lets the archive choose the decoder's memory, up to 4 GiB: only what wheels use is unpacked."""
        path = archive(tmp_path, method)

        for read in (
            lambda: wheels.write_bundle(tmp_path / "bundle", [path]),
            lambda: wheels.metadata_of(path),
            lambda: wheels.top_level_modules(path),
        ):
            with pytest.raises(ValueError, match="packed by another method than wheels are"):
                read()

    def test_a_name_with_escape_sequences(self, tmp_path):
        """An error shows the name as a literal: it goes to a terminal."""
        path = archive(tmp_path, files={"\x1b]0;pwned\x07.py": b"12345678"})
        data = path.read_bytes()
        at = data.rfind(b"PK\x01\x02\x14")  # of the metadata; the entry before it is the file
        first = data.find(b"PK\x01\x02")
        assert first < at
        size = (9).to_bytes(4, "little")  # one more than there is
        path.write_bytes(data[: first + 24] + size + data[first + 28 :])

        with pytest.raises(ValueError, match=r"\S") as caught:
            wheels.write_bundle(tmp_path / "bundle", [path])
        assert str(caught.value).isprintable()

    def test_names_of_modules_that_fill_a_prompt(self, tmp_path):
        """A module is named in the prompt, so one with a name of hundreds of characters does not count as one."""
        path = archive(tmp_path, files={f"{'a' * 900}.py": b"", "b.py": b""})

        assert wheels.top_level_modules(path) == ["b"]

    def test_metadata_with_half_a_million_dependencies(self, tmp_path):
        """Each would be parsed: no real package has a tenth of the bound."""
        path = make_wheel(tmp_path, "thing", says="Requires-Dist: a\n" * 200_000)

        with pytest.raises(ValueError, match="dependencies"):
            wheels.metadata_of(path)

    @pytest.mark.parametrize(
        "says",
        [
            b"Requires-Dist: \xff\xfe a\n" * 15_000,
            b"Requires-Dist: " + b"\xff" * 7_000_000 + b"\n",
            b"Requires-Dist: a\n" + b" b\n" * 1_000_000,
            b"Requires-Dist: " + b"=?utf-8?q?a?= " * 500_000 + b"\n",
            b"X" * 7_000_000 + b": a\n",
        ],
        ids=["invalid bytes", "a long line", "a folded line", "encoded words", "a long name"],
    )
    def test_metadata_that_is_hard_to_read(self, tmp_path, says):
        """It takes time in proportion to its length."""
        path = tmp_path / "thing-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
            head = b"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n"
            target.writestr("thing-1.0.dist-info/METADATA", head + says)
        began = time.process_time()

        assert wheels.metadata_of(path).name == "thing"
        assert time.process_time() - began < 5


NOT_NAMES = {
    "an escape sequence": "thing-1.0-py3-none-any.%1b]0;pwned%07.whl",
    "a line end": "thing-1.0-py3-none-any.%0a--extra-index-url.whl",
    "a right-to-left mark": "thing-1.0-py3-none-any.%E2%80%AEx.whl",
    "a space": "thing-1.0-py3-none-any.%20x.whl",
}


class TestIndexes:
    """Answers of an index, read by pip."""

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("name", NOT_NAMES.values(), ids=NOT_NAMES)
    def test_a_file_name_that_is_none(self, index, tmp_path, monkeypatch, name):
        """The compressed tags of a name admit any characters: none becomes a file here, or a line on a terminal."""
        wheel = make_wheel(tmp_path, "thing")

        def answer(path: str) -> Answer:
            if path.endswith(".whl"):
                return 200, {"Content-Type": "application/zip"}, wheel.read_bytes()
            html = f'<a href="/files/{name}#sha256={sha256(wheel)}">{name}</a>'
            return 200, {"Content-Type": HTML_PAGE}, html.encode()

        with server(answer) as (url, seen):
            monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple/")
            with pytest.raises(PackageError) as caught:
                resolve(["thing"])

        assert all(c.isprintable() or c == "\n" for c in str(caught.value))
        assert not [path for path, _ in seen if path.endswith(".whl")]

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("way", ["a link", "a redirection", "a redirection of the file"])
    def test_a_password_for_one_server_is_not_sent_to_another(
        self, index, tmp_path, monkeypatch, way
    ):
        """That of the index's address stays with its host and port, wherever the index leads."""
        wheel = make_wheel(tmp_path, "thing")
        whole = 200, {"Content-Type": "application/zip"}, wheel.read_bytes()

        def other(path: str) -> Answer:
            if path.endswith(".whl"):
                return whole
            return 200, {"Content-Type": JSON_PAGE}, page(wheel, f"/{wheel.name}")

        def first(path: str) -> Answer:
            if path.endswith(".whl"):
                return 302, {"Location": f"{elsewhere}/{wheel.name}"}, b""
            if way == "a redirection":
                return 302, {"Location": f"{elsewhere}/simple/thing/"}, b""
            place = f"{elsewhere}/{wheel.name}" if way == "a link" else f"/{wheel.name}"
            return 200, {"Content-Type": JSON_PAGE}, page(wheel, place)

        with server(other) as (elsewhere, there), server(first) as (url, here):
            address = url.replace("http://", "http://me:TOPSECRET1@")
            monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple/")
            assert [one.name for one in resolve(["thing"]).packages] == ["thing"]

        mine = "Basic " + base64.b64encode(b"me:TOPSECRET1").decode()
        assert mine in [sent for _, sent in here]
        assert there
        assert not [sent for _, sent in there if sent]

    @pytest.mark.nightly  # `test_lock_files.py` has the same with a page of links
    def test_a_json_page_with_the_hash_of_another_file(self, index, tmp_path, monkeypatch):
        """With a lock file the hashes of the page do not count, whatever the server sends first."""
        good = make_wheel(tmp_path, "thing").read_bytes()
        other = make_wheel(tmp_path, "thing", files={"thing.py": "VERSION = 'EVIL'"})
        sent = iter([good])

        def answer(path: str) -> Answer:
            if path.endswith(".whl"):
                body = next(sent, other.read_bytes())
                return 200, {"Content-Type": "application/zip", "Cache-Control": "no-store"}, body
            return 200, {"Content-Type": JSON_PAGE}, page(other, f"/{other.name}")

        lock = tmp_path / "requirements.txt"
        lock.write_text(f"thing==1.0 --hash=sha256:{hashlib.sha256(good).hexdigest()}\n")
        with server(answer) as (url, _):
            monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple/")
            with pytest.raises(PackageError) as caught:
                resolve(lock)

        assert "HASH" in str(caught.value).upper()

    @pytest.mark.nightly
    def test_a_content_disposition_with_another_name(self, index, tmp_path, monkeypatch):
        """The file is the one that was linked, whatever the server calls it when it sends it."""
        wheel = make_wheel(tmp_path, "thing")

        def answer(path: str) -> Answer:
            if path.endswith(".whl"):
                headers = {"Content-Disposition": 'attachment; filename="../../thing-1.0.tar.gz"'}
                return 200, {"Content-Type": "application/x-gzip", **headers}, wheel.read_bytes()
            return 200, {"Content-Type": JSON_PAGE}, page(wheel, f"/{wheel.name}")

        with server(answer) as (url, _):
            monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple/")
            found = resolve(["thing"])

        assert [one.file for one in found.packages] == [wheel.name]
        assert not list(tmp_path.rglob("*.tar.gz"))

    @pytest.mark.nightly
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("PIP_PLATFORM", "linux_x86_64 manylinux_2_28_x86_64"),
            ("PIP_ABI", "cp311"),
            ("PIP_NO_BINARY", ":all:"),
            ("PIP_PYTHON_VERSION", "3.8"),
            ("PIP_IMPLEMENTATION", "pp"),
            ("PIP_TARGET", "elsewhere"),
            ("PIP_REPORT", "report.json"),
            ("PIP_LOG", "pip.log"),
            ("PIP_PREFIX", "elsewhere"),
            ("PIP_ROOT", "elsewhere"),
            ("PIP_UPGRADE", "1"),
            ("PIP_DRY_RUN", "0"),
            ("PIP_DEST", "elsewhere"),
        ],
    )
    def test_a_setting_of_the_environment(self, index, tmp_path, monkeypatch, name, value):
        """Settings of the user for other purposes lead to the same wheel, a refusal, or no file outside of the cache."""
        wheel, native = (
            make_wheel(tmp_path, "thing"),
            make_wheel(tmp_path, "thing", tag="cp314-cp314-linux_x86_64"),
        )
        for one in (wheel, native):
            index.add(one)
        work = tmp_path / "work"
        work.mkdir()
        monkeypatch.chdir(work)
        monkeypatch.setenv(name, value)
        files = []
        with contextlib.suppress(PackageError):
            files = [one.file for one in resolve(["thing"]).packages]
        assert files in ([], ["thing-1.0-py3-none-any.whl"])
        assert {file.name for file in work.iterdir()} <= {"pip.log"}  # which the user wants

    @pytest.mark.nightly
    def test_metadata_that_expands_to_gigabytes(self, index, tmp_path):
        """pip reads the metadata of a wheel as a whole: its memory is bounded, and ours does not see it."""
        path = tmp_path / "thing-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
            with target.open("thing-1.0.dist-info/METADATA", "w", force_zip64=True) as file:
                file.write(b"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
                for _ in range(2_000):
                    file.write(b"Keywords: " + b"a" * (1024 * 1024) + b"\n")
            target.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
        index.add(path)

        with pytest.raises(PackageError) as caught:
            resolve(["thing"])
        assert len(str(caught.value)) < 2_000
