"""Time zones by name. WebAssembly has no database of them: `zoneinfo` reads the host's through these functions.

Runs inside the sandbox, so it uses only the standard library. `sandbox_runtime/zones.py` is the other side.
"""

from __future__ import annotations

import io
import zoneinfo
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

# Not a Python identifier, so that no user's tool can have this name.
ZONE_CALL = "zone.data"


def time_zone(key: str, data: bytes | None) -> zoneinfo.ZoneInfo:
    """Returns a time zone by its name, with the rules that came with a value of the host."""
    if data is not None:
        _keep(key, data)
    return zoneinfo.ZoneInfo(key)


def read_from_host(ask: Callable[..., Any]) -> None:
    """Makes `zoneinfo` read the zones that are not on the sandbox's disk through `ask`.

    Without arguments `ask` returns all names; with a name, the file of that zone, or None.
    """
    from zoneinfo import _common, _tzpath

    from_package = _common.load_tzdata

    def load_tzdata(key: str) -> Any:
        """Opens the file of a zone."""
        data = ask(key)
        if data is not None:
            _keep(key, data)
            return io.BytesIO(data)
        with suppress(zoneinfo.ZoneInfoNotFoundError):
            return from_package(key)  # `tzdata` may be installed in the sandbox
        raise zoneinfo.ZoneInfoNotFoundError(
            f"there is no time zone {key!r}; zoneinfo.available_timezones() returns the names of all"
        )

    listed_here = _tzpath.available_timezones

    def available_timezones() -> set[str]:
        """Returns the names of all time zones."""
        return {*ask(), *listed_here()}

    _common.load_tzdata = load_tzdata
    zoneinfo.available_timezones = _tzpath.available_timezones = available_timezones


def _keep(key: str, data: bytes) -> None:
    """Writes the file of a zone to the sandbox's disk, where `zoneinfo` finds it, unless it is there."""
    if not zoneinfo.TZPATH:
        return
    path = Path(zoneinfo.TZPATH[0], key)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
