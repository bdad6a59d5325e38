"""Resource limits of a child process, where the system can set them for another one."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from types import ModuleType

resource: ModuleType | None
try:
    import resource
except ImportError:  # Windows
    resource = None


def lower_limits(pid: int, limits: Mapping[str, int]) -> None:
    """Lowers the soft and the hard limits of a child, each by itself.

    A limit that is lower already stays: raising it needs privileges.

    Args:
        pid: The child. If it has ended, nothing happens.
        limits: The values by name, such as `RLIMIT_DATA`.
    """
    if resource is None or not hasattr(resource, "prlimit"):
        return
    for name, most in limits.items():
        # It has ended, or this system has no such limit.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            kind = getattr(resource, name)
            hard = resource.prlimit(pid, kind)[1]
            value = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.prlimit(pid, kind, (value, value))
