"""The ignore rules above a folder that lies in a Git repository.

Git applies `.git/info/exclude` and the `.gitignore` files from the repository's root down:
https://git-scm.com/docs/gitignore. The user's own `core.excludesFile` is left out: it would make the inputs of a run depend on the
machine. All files are read in a bounded way, and only as rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from sandbox_runtime.texts.regular_files import open_regular, read_whole

# The files by which a worktree or a submodule names its Git folder hold one path.
_MAX_LINK_BYTES = 8 * 1024


def rules_above(folder: Path, most_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Yields the content of each file of rules above a folder, from the weakest to the nearest.

    Each comes with the path from its folder down to this one, which ends with a slash. A file that is larger is left out.
    """
    root = next((above for above in (folder, *folder.parents) if (above / ".git").exists()), None)
    if root is None:
        return
    parts = folder.relative_to(root).parts
    git = _git_folder(root / ".git")
    places = [git / "info" / "exclude"] if git is not None else []
    prefixes = [_prefix(parts)] * len(places)
    for depth in range(len(parts)):
        places.append(root.joinpath(*parts[:depth], ".gitignore"))
        prefixes.append(_prefix(parts[depth:]))
    for place, prefix in zip(places, prefixes, strict=True):
        if (data := _content(place, most_bytes)) is not None:
            yield prefix, data


def _prefix(parts: tuple[str, ...]) -> str:
    return "".join(f"{part}/" for part in parts)


def _git_folder(place: Path) -> Path | None:
    """Returns the folder of the repository itself, also of a worktree or a submodule, where `.git` is a file."""
    if place.is_dir():
        return place
    head, _, path = (
        (_content(place, _MAX_LINK_BYTES) or b"").decode("utf-8", "replace").partition(":")
    )
    if head != "gitdir" or not path.strip():
        return None
    own = place.parent / path.strip()
    common = (_content(own / "commondir", _MAX_LINK_BYTES) or b"").decode("utf-8", "replace")
    return own / common.strip() if common.strip() else own


def _content(place: Path, most_bytes: int) -> bytes | None:
    with suppress(OSError, ValueError):
        return read_whole(open_regular(place), most_bytes)
    return None
