"""Pyodide's own distribution of packages: a further source, held to the hashes in the lock file that came
with Pyodide.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from packaging.utils import canonicalize_name

from sandbox_runtime.engine import assets
from sandbox_runtime.errors import PackageError
from sandbox_runtime.packages.pip_report import SearchResult

# Another place with the same files, such as a mirror, in this variable.
DISTRIBUTION = "https://cdn.jsdelivr.net/pyodide/v314.0.7/full/"
DISTRIBUTION_VARIABLE = "SANDBOX_PYODIDE_DISTRIBUTION"

# A server that is silent for so long has failed, and so has a download that takes ten times as long.
FETCH_SECONDS = 60
# The largest library there is has some 30 MB.
MAX_LIBRARY_BYTES = 256 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024

Entry = Mapping[str, Any]
"""The lock file's entry for one package."""


def place_of(given: str | None) -> str:
    """The address of the files, with a final slash; None: that of the variable, or the usual one."""
    place = given or os.environ.get(DISTRIBUTION_VARIABLE) or DISTRIBUTION
    return place if place.endswith("/") else f"{place}/"


def locked_packages() -> Mapping[str, Entry]:
    """The packages of Pyodide's distribution, by normal name. Its hashes came with Pyodide's own."""
    try:
        text = (assets.find_engine().folder / assets.LOCK_FILE).read_text(encoding="utf-8")
        return dict(json.loads(text)["packages"])
    except (OSError, ValueError, KeyError) as error:
        raise PackageError(f"Pyodide's list of packages cannot be read: {error}") from error


def links_page(locked: Mapping[str, Entry], place: str) -> str:
    """The distribution's wheels as pip reads them: a page of links with hashes."""
    return "\n".join(
        f'<a href="{html.escape(urljoin(place, item["file_name"]))}#sha256={item["sha256"]}">'
        f"{html.escape(item['file_name'])}</a>"
        for item in locked.values()
        if item["file_name"].endswith(".whl")
    )


def fetch_libraries(
    found: Iterable[SearchResult], locked: Mapping[str, Entry], place: str, folder: Path
) -> list[Path]:
    """The shared libraries that packages of Pyodide's distribution need; pip knows nothing of those."""
    taken = [
        name
        for item in found
        if (name := canonicalize_name(item.name)) in locked
        and item.url == urljoin(place, locked[name]["file_name"])
    ]
    return [
        fetch(urljoin(place, item["file_name"]), item["sha256"], folder)
        for item in _dependencies(taken, locked)
        if item.get("package_type") == "shared_library"
    ]


def _dependencies(names: Iterable[str], locked: Mapping[str, Entry]) -> Iterator[Entry]:
    seen: set[str] = set()
    left = list(names)
    while left:
        name = canonicalize_name(left.pop())
        if name in locked and name not in seen:
            seen.add(name)
            left += locked[name]["depends"]
            yield locked[name]


def fetch(url: str, digest: str, folder: Path) -> Path:
    """Puts a file of the distribution into a folder. Raises `PackageError`, also for another hash."""
    # They take as long as all the rest here, and are seldom wanted.
    import http.client
    import urllib.request

    data = bytearray()
    latest = time.monotonic() + 10 * FETCH_SECONDS
    try:
        with urllib.request.urlopen(url, timeout=FETCH_SECONDS) as answer:  # noqa: S310 - hashed
            while chunk := answer.read1(_CHUNK_BYTES):
                data += chunk
                if len(data) > MAX_LIBRARY_BYTES or time.monotonic() > latest:
                    raise PackageError(f"{url} is too long, or comes too slowly.")
            if answer.length:  # what was promised and did not come
                raise http.client.IncompleteRead(bytes(data), answer.length)
    except (OSError, http.client.HTTPException) as error:
        raise PackageError(f"{url} cannot be fetched: {error}") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise PackageError(f"{url} is not what Pyodide's lock file says: its hash differs.")
    path = folder / url.rsplit("/", 1)[-1]
    path.write_bytes(data)
    return path
