"""Formatting of sizes."""

from __future__ import annotations


def size_text(size_bytes: float) -> str:
    """Formats a number of bytes, such as `31.5 MB`."""
    if size_bytes < 1000:
        return f"{size_bytes:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        size_bytes /= 1000
        if size_bytes < 999.95 or unit == "GB":
            break
    return f"{size_bytes:,.1f} {unit}"
