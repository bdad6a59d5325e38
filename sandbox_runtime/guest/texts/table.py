"""Tables that stay on the host: the class that cells use.

Runs inside the sandbox, so it uses only the standard library. `sandbox_runtime/texts/tables/table.py` is the other side.
"""

from __future__ import annotations

from typing import Any, NoReturn

from sandbox_runtime.guest.texts.host_calls import ask
from sandbox_runtime.guest.values.handles import Handle

Rows = list[dict[str, Any]]


class LazyTable(Handle):
    """A table that stays on the host and is queried by its own engine.

    len(t), t.columns (a dict: name -> type)
    t.rows(where=None, columns=None, start=0, limit=100)   dicts; a long text in one is a lazy text
    t.count(where)
    t.grep(pattern, columns=None, where=None, ignore_case=False, limit=100)   rows with a matching text
    t.search(words, column, where=None, limit=20)          the rows that fit best
    t[row["row"]]                                          one row by its handle

    where: a list of (column, operator, value), which must all hold; operators: = != < <= > >= in, not in,
    contains, matches (a regular expression).
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{self._type_name} {self._preview}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(
            f"{self!r} has no {name!r}. It has len(t), columns, rows, count, grep, search and t[handle]. See help(t)."
        )

    @property
    def columns(self) -> dict[str, str]:
        """The types of the columns by name."""
        return dict(ask(self, "columns"))

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> NoReturn:
        raise TypeError("a table is read in pages: t.rows(where, columns, start, limit)")

    def __getitem__(self, handle: Any) -> dict[str, Any]:
        row: dict[str, Any] = ask(self, "row", handle)
        return row

    def count(self, where: Any = None) -> int:
        """The number of rows for which all conditions hold."""
        number: int = ask(self, "count", where)
        return number

    def rows(
        self, where: Any = None, columns: Any = None, start: int = 0, limit: int = 100
    ) -> Rows:
        """Rows in the order of the table, each a dict with its handle as `row`."""
        found: Rows = ask(self, "rows", where, columns, start, limit)
        return found

    def grep(
        self,
        pattern: str,
        columns: Any = None,
        where: Any = None,
        ignore_case: bool = False,
        limit: int = 100,
    ) -> Rows:
        """The rows in which a text matches a regular expression."""
        found: Rows = ask(self, "grep", pattern, columns, where, ignore_case, limit)
        return found

    def search(self, words: str, column: str, where: Any = None, limit: int = 20) -> Rows:
        """The rows that fit the words best, by the column's text index; without one, rows that contain each word."""
        found: Rows = ask(self, "search", words, column, where, limit)
        return found
