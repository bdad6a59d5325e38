"""Directories of texts that stay on the host: the class that cells use.

Runs inside the sandbox, so it uses only the standard library. `sandbox_runtime/texts/directory.py` is the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from sandbox_runtime.guest.texts.host_calls import ask
from sandbox_runtime.guest.texts.lazy_text import LazyText
from sandbox_runtime.guest.texts.matches import (
    GrepHit,
    SearchResult,
    noted,
    pattern_of,
    search_result,
)
from sandbox_runtime.guest.values.handles import Handle
from sandbox_runtime.guest.values.lazy_sequences import LazySequence

MAX_TREE_LINES = 500


class LazyDirectory(Handle):
    """Texts of a directory that stay on the host, by their paths.

    len(d), for path in d, path in d, d["src/a.py"]  a lazy text: see help(d[path])
    d.paths("src/**/*.py"), d.sizes(glob), d.tree()
    d.grep(pattern, glob=None, before=0, after=0, limit=100, ignore_case=False)
                          lines that match, each with path, line_number, position, line
    d.search(pattern, glob=None)                     the first of them, or None

    Searches pass over binary files, and say so.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{self._type_name} {self._preview}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(
            f"{self!r} has no {name!r}. It has len(d), `for path in d`, d[path], paths, sizes, tree, "
            "grep and search. See help(d)."
        )

    def __len__(self) -> int:
        return len(self.paths())

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths())

    def __contains__(self, path: object) -> bool:
        return path in self.sizes()

    def __getitem__(self, path: Any) -> LazyText:
        if isinstance(path, (int, slice)):
            raise TypeError(
                "a directory is read by path, d['a.txt'], not by position. Its paths are d.paths(), and some of "
                "them d.paths()[:20]."
            )
        text: LazyText = ask(self, "file", str(path))
        return text

    def keys(self) -> list[str]:
        """The paths."""
        return self.paths()

    def items(self) -> LazySequence:
        """Returns the pairs of a path and its lazy text, as a sequence."""
        return _lazy(self.paths(), lambda path: (path, self[path]))

    def values(self) -> LazySequence:
        """Returns the lazy texts, as a sequence."""
        return _lazy(self.paths(), self.__getitem__)

    def paths(self, glob: str | None = None) -> list[str]:
        """The paths, sorted; with a glob, those that match: `src/**/*.py`, or `*.py` in any folder."""
        return list(self.sizes(glob))

    def sizes(self, glob: str | None = None) -> dict[str, int]:
        """The size of each file in bytes, by path."""
        return {path: size for path, size in ask(self, "sizes", glob)}  # noqa: C416 - turns lists into pairs

    def tree(self, glob: str | None = None) -> str:
        """A listing of folders and files with their sizes, as text."""
        lines: list[str] = []
        open_folders: list[str] = []
        sizes = self.sizes(glob)
        for done, (path, size) in enumerate(sizes.items()):
            if len(lines) >= MAX_TREE_LINES:
                lines.append(f"[{len(sizes) - done:,} more files]")
                break
            *folders, name = path.split("/")
            common = 0
            while common < min(len(folders), len(open_folders)) and (
                folders[common] == open_folders[common]
            ):
                common += 1
            lines += ["  " * at + folders[at] + "/" for at in range(common, len(folders))]
            open_folders = folders
            lines.append(f"{'  ' * len(folders)}{name} ({size:,} bytes)")
        return "\n".join(lines)

    def grep(
        self,
        pattern: Any,
        glob: str | None = None,
        before: int = 0,
        after: int = 0,
        limit: int = 100,
        ignore_case: bool = False,
        *,
        flags: int = 0,
    ) -> SearchResult:
        """The lines in which a regular expression matches, with `before` and `after` lines of context."""
        text, bits = pattern_of(pattern, flags, ignore_case)
        payload = ask(self, "grep", text, bits, glob, before, after, limit)
        return noted(search_result(payload, GrepHit), "grep", limit, "hits")

    def search(self, pattern: Any, glob: str | None = None, *, flags: int = 0) -> GrepHit | None:
        """The first line in which a regular expression matches."""
        text, bits = pattern_of(pattern, flags, False)
        hits = search_result(ask(self, "grep", text, bits, glob, 0, 0, 1), GrepHit)
        return hits[0] if hits else None


def _lazy(paths: list[str], item: Callable[[str], Any]) -> LazySequence:
    return LazySequence(paths.__len__, lambda at: item(paths[at]), lambda: map(item, paths))
