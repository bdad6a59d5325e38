"""The objects below an address, as a folder of texts: hidden names are left out, and all work is bounded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from sandbox_runtime.texts.deadline import Deadline
from sandbox_runtime.texts.listing.walk import MAX_FILES, MAX_PATH_CHARS
from sandbox_runtime.texts.objects.store import Stamp, Store


def listed_objects(
    store: Store, matches: Callable[[str], bool], deadline: Deadline
) -> tuple[dict[str, Stamp], Counter[str]]:
    """Returns the objects by their paths, sorted, and the numbers of those left out by their kind.

    Raises:
        OSError: They cannot be listed.
        ValueError: There are more than a folder may have.
    """
    found: dict[str, Stamp] = {}
    left_out: Counter[str] = Counter()
    chars = 0
    for path, stamp in store.objects():
        deadline.check()
        if not path or path.endswith("/"):  # the mark of a folder
            continue
        if any(part.startswith(".") for part in path.split("/")) or not matches(path):
            continue
        if not _is_plain(path):
            left_out["objects with unusual names"] += 1
            continue
        found[path] = stamp
        chars += len(path)
        if len(found) > MAX_FILES or chars > MAX_PATH_CHARS:
            raise ValueError(
                f"{store.address.shown} has more than {MAX_FILES:,} objects. Choose some by a pattern, such as "
                "Directory(url, 'logs/2026-11/*.txt')."
            )
    return dict(sorted(found.items())), left_out


def _is_plain(path: str) -> bool:
    """Returns whether code can name the object as a path below the address."""
    parts = path.split("/")
    return "" not in parts and ".." not in parts and "\0" not in path
