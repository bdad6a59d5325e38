"""The processors and the memory that this process may use: those of its container, of which the machine itself may have more.

Reads the limits of control groups, version 2 (`cpu.max`, `memory.max`) and version 1 (`cpu.cfs_quota_us`,
`memory.limit_in_bytes`), of the process's own group and of all groups around it
(https://docs.kernel.org/admin-guide/cgroup-v2.html).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_GROUPS = "sys/fs/cgroup"


def cpus(system: Path = Path("/")) -> float:
    """Returns the processors that this process may use, as a quota of time: 0.5 is half of one."""
    limits = [float(_allowed_cpus())]
    for group in _groups(system, "cpu"):
        with contextlib.suppress(OSError, ValueError):
            quota, period = (group / "cpu.max").read_text("ascii").split()
            limits.append(int(quota) / int(period))
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota = (group / "cpu.cfs_quota_us").read_text("ascii")
            period = (group / "cpu.cfs_period_us").read_text("ascii")
            if int(quota) > 0:  # -1: none
                limits.append(int(quota) / int(period))
    return min(limits)


def memory_bytes(system: Path = Path("/")) -> int | None:
    """Returns the memory that this process may use; None if unknown."""
    limits = []
    with contextlib.suppress(AttributeError, OSError, ValueError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for group in _groups(system, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                limits.append(int((group / name).read_text("ascii")))
    return min(limits, default=None)


def available_bytes(system: Path = Path("/")) -> int | None:
    """Returns the memory that new processes can take without swapping, the container's limit included; None if unknown.

    `system` is the root of the file system, whose `/proc` and `/sys` say it.
    """
    rooms = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        text = (system / "proc/meminfo").read_text("ascii")
        rooms.append(1024 * int(text.partition("MemAvailable:")[2].split()[0]))
    for group in _groups(system, "memory"):
        for most, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            with contextlib.suppress(OSError, ValueError):
                room = int((group / most).read_text("ascii")) - int(
                    (group / used).read_text("ascii")
                )
                rooms.append(max(room + _cached_bytes(group), 0))
    return min(rooms, default=None)


def _cached_bytes(group: Path) -> int:
    """Returns the bytes of files that a group caches, which can go."""
    fields = [line.split() for line in (group / "memory.stat").read_text("ascii").splitlines()]
    sizes = {name: int(size) for name, size in fields}
    names = ("active_file", "inactive_file")
    return sum(sizes.get(f"total_{name}", sizes.get(name, 0)) for name in names)


def _allowed_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        with contextlib.suppress(OSError):
            return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def _groups(system: Path, controller: str) -> Iterator[Path]:
    """Yields the folders of the groups of this process for a controller, from its own to the outermost.

    Inside a container the path that the kernel states may be that of the host, of which there is only the top.
    """
    root = system / _GROUPS
    own = {"": "/"}
    with contextlib.suppress(OSError, ValueError):
        for line in (system / "proc/self/cgroup").read_text("utf-8").splitlines():
            _, names, path = line.split(":", 2)
            own |= dict.fromkeys(names.split(","), path)
    yield from _upwards(root, own[""])
    yield from _upwards(root / "unified", own[""])
    if controller in own:
        yield from _upwards(root / controller, own[controller])


def _upwards(root: Path, path: str) -> Iterator[Path]:
    parts = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
    for count in range(len(parts), -1, -1):
        yield root.joinpath(*parts[:count])
