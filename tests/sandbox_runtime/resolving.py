"""Helpers for tests of packages: names, refusals, and clearing the caches of a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox_runtime import (
    PackageError,
    PackageSet,
)
from sandbox_runtime.installation import package_images
from sandbox_runtime.packages import resolve as packages


def names(found: PackageSet) -> list[str]:
    return sorted(package.name for package in found.packages)


def forget_images() -> None:
    """Clears the caches, as in a new process."""
    package_images._is_sound.cache_clear()


def refusal(*requirements: str, **options) -> str:
    with pytest.raises(PackageError) as caught:
        packages.resolve(requirements, **options)
    return str(caught.value)


def refusal_of(path: Path) -> str:
    with pytest.raises(PackageError) as caught:
        packages.resolve(path)
    return str(caught.value)
