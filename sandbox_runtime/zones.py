"""The time zone database of this machine. Sandboxes have none, and read its files through the host.

The database is the system's (`zoneinfo.TZPATH`) or that of the package `tzdata`.
"""

from __future__ import annotations

import functools
import importlib.resources
import zoneinfo
from pathlib import Path

# A link to the zone of this machine, which no sandbox may learn.
_LOCAL = "localtime"


@functools.cache
def zone_names() -> frozenset[str]:
    """Returns the time zones of this machine, cached: looking up a missing one is slow."""
    return frozenset(zoneinfo.available_timezones() - {_LOCAL})


def zone_data(key: str) -> bytes | None:
    """Returns the file of a time zone; None if this machine does not have it."""
    for folder in zoneinfo.TZPATH:
        path = Path(folder, key)
        if path.is_file():
            return path.read_bytes()
    try:
        package, _, name = f"tzdata.zoneinfo.{key.replace('/', '.')}".rpartition(".")
        return importlib.resources.files(package).joinpath(name).read_bytes()
    except (ImportError, OSError):
        return None


def serve_zone(key: object = None, /) -> bytes | list[str] | None:
    """Answers a cell's call, which is hostile: the names of all zones, or the file of one.

    Only a known name becomes a path.
    """
    if key is None:
        return sorted(zone_names())
    return zone_data(key) if type(key) is str and key in zone_names() else None
