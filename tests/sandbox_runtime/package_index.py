"""A package index over HTTP for the tests, and wheels built by hand for it."""

from __future__ import annotations

import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# Nothing listens there.
CLOSED = "http://127.0.0.1:9/"


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serves requests in another thread, and prints none; yields the server's host and port."""
    quiet = type(handler.__name__, (handler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), quiet) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class PackageIndex:
    """A package index over HTTP; `add` puts a file into it, `serve_in_turn` lets it cheat, `requests` has the requested paths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        self.turns: dict[str, list[bytes]] = {}
        index = self

        class Pages(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, directory=str(folder), **kwargs)

            def do_GET(self):
                index.requests.append(self.path)
                contents = index.turns.get(self.path)
                if contents is None:
                    return super().do_GET()
                content = contents.pop(0) if len(contents) > 1 else contents[0]
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                self.wfile.write(content)
                return None

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def add(self, path: Path, digest: str | None = None) -> Path:
        """Lists a file under its project, with its hash or another."""
        project = path.name.split("-")[0].lower().replace("_", "-")
        folder = self.folder / project
        folder.mkdir(exist_ok=True)
        target = folder / path.name
        path.replace(target)
        digest = digest or sha256(target)
        with (folder / "index.html").open("a") as page:
            page.write(f'<a href="{path.name}#sha256={digest}">{path.name}</a>\n')
        return target

    def serve_in_turn(self, path: Path, *contents: bytes) -> None:
        """Serves other contents for a file of the index: one for each request, the last for all further ones."""
        self.turns[f"/{path.relative_to(self.folder).as_posix()}"] = list(contents)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *requires: str,
    tag: str = "py3-none-any",
    files: Mapping[str, str] | None = None,
    says: str = "",
) -> Path:
    """Builds a wheel from modules by path, and requirements; `says` is further metadata."""
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {line}\n" for line in requires) + says
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, text in (files or {f"{name}/__init__.py": f"VERSION = {version!r}\n"}).items():
            archive.writestr(place, text)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(
            f"{info}/WHEEL",
            f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
        )
        archive.writestr(f"{info}/RECORD", "")
    return path
