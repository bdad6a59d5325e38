"""The results of searches in lazy texts, and the patterns to search for.

Runs inside the sandbox, so it uses only the standard library.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

from sandbox_runtime.guest.cell_notes import note

# The mark of a line that the host has truncated.
_CUT = "[...]"


class SearchResult(list[Any]):
    """The result of a search. `more` is true if the search stopped at its limit.

    `passed_over` has files that were not searched, each with the reason, such as "a PNG image".
    """

    more = False

    def __init__(
        self, items: list[Any], *, more: bool = False, passed_over: tuple[int, Any] = (0, ())
    ) -> None:
        super().__init__(items)
        self.more = more
        self._passed_over_count, files = passed_over
        self.passed_over = dict(files)

    def __repr__(self) -> str:
        text = super().__repr__()
        if self and isinstance(self[0], GrepHit):
            text = "\n".join(map(str, self))
        return "\n".join(filter(None, [text, self.not_searched, self.stopped]))

    @property
    def not_searched(self) -> str:
        """Names the files that were not searched; empty if there are none."""
        if not self._passed_over_count:
            return ""
        named = ", ".join(f"{path}: {reason}" for path, reason in self.passed_over.items())
        others = self._passed_over_count - len(self.passed_over)
        return f"[not searched: {named}{f', and {others:,} more files' if others else ''}]"

    @property
    def stopped(self) -> str:
        """Says that there may be more matches; empty if there are none."""
        if not self.more:
            return ""
        return f"[the first {len(self):,}; there may be more: raise limit, or go on after these]"


class TextMatch:
    """A match as of `re`, with `line_number` (from 1) and `line`."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python itself looks these up on any object
            raise AttributeError(name)
        raise AttributeError(
            f"a match has no {name!r}. It has group(), groups(), groupdict(), start(), end(), span(), "
            "match[0], line_number and line."
        )

    def __init__(self, payload: dict[str, Any]) -> None:
        self._spans, self._groups, self._names = (
            payload["spans"],
            payload["groups"],
            payload["names"],
        )
        self.line_number: int = payload["line"]
        self.line: str = payload["text"]

    def _number(self, group: int | str) -> int:
        number = self._names.get(group) if isinstance(group, str) else group
        if number is None or not 0 <= number < len(self._spans):
            raise IndexError("no such group")
        return int(number)

    def group(self, *groups: int | str) -> Any:
        """Returns the text of a group, or of the match; long ones are truncated and end with [...]."""
        texts = tuple(self._groups[self._number(group)] for group in groups or (0,))
        return texts[0] if len(texts) == 1 else texts

    def __getitem__(self, group: int | str) -> Any:
        return self.group(group)

    def groups(self, default: Any = None) -> tuple[Any, ...]:
        """Returns the texts of all groups."""
        return tuple(default if group is None else group for group in self._groups[1:])

    def groupdict(self, default: Any = None) -> dict[str, Any]:
        """Returns the texts of the named groups."""
        texts = {name: self._groups[number] for name, number in self._names.items()}
        return {name: default if text is None else text for name, text in texts.items()}

    def span(self, group: int | str = 0) -> tuple[int, int]:
        """Returns the start and end of a group, in characters of the text."""
        span = self._spans[self._number(group)]
        return (-1, -1) if span is None else (span[0], span[1])

    def start(self, group: int | str = 0) -> int:
        """Returns the start of a group."""
        return self.span(group)[0]

    def end(self, group: int | str = 0) -> int:
        """Returns the end of a group."""
        return self.span(group)[1]

    def __repr__(self) -> str:
        return f"<match span={self.span()}, line {self.line_number}, match={self._groups[0]!r:.80}>"


_HIT_USE = (
    "It has hit.line (the text of the line), hit.line_number (from 1), hit.match, hit.position, hit.path, "
    "hit.before and hit.after."
)


class GrepHit:
    """A line that matches: `path`, `line_number` (from 1), `position` of the match, `line`, `match`,
    and the lines `before` and `after` it. Lines beyond 1,000 characters are truncated.
    """

    def __init__(self, payload: dict[str, Any]) -> None:
        self.path: str = payload["path"]
        self.line_number: int = payload["line"]
        self.position: int = payload["spans"][0][0]
        self.line: str = payload["text"]
        self.match: str = payload["groups"][0]
        self.before, self.after = payload.get("around", ((), ()))

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python itself looks these up on any object
            raise AttributeError(name)
        raise AttributeError(f"a GrepHit has no {name!r}. {_HIT_USE}")

    def __getitem__(self, name: Any) -> Any:
        if isinstance(name, str) and name in vars(self):
            return vars(self)[name]
        raise KeyError(f"a GrepHit has no {name!r}. {_HIT_USE}")

    def __iter__(self) -> NoReturn:
        raise TypeError(f"a GrepHit is no tuple. {_HIT_USE}")

    def __str__(self) -> str:
        first = self.line_number - len(self.before)
        numbered = [f"{self.path}-{first + at}- {line}" for at, line in enumerate(self.before)]
        numbered.append(f"{self.path}:{self.line_number}: {self.line}")
        after = enumerate(self.after, self.line_number + 1)
        return "\n".join([*numbered, *(f"{self.path}-{at}- {line}" for at, line in after)])

    def __repr__(self) -> str:
        return f"{self.path}:{self.line_number}: {self.line}"


def findall_item(match: TextMatch) -> Any:
    """Returns the item of a match in the form of `re.findall`: its text, its group or its groups."""
    groups = match.groups("")
    return groups if len(groups) > 1 else groups[0] if groups else match.group()


def search_result(payload: dict[str, Any], kind: type[TextMatch] | type[GrepHit]) -> SearchResult:
    """Builds the result of a search on the host. Raises TimeoutError if the search was stopped early."""
    result = SearchResult(
        [kind(hit) for hit in payload["hits"]],
        more=payload["more"],
        passed_over=payload["passed_over"],
    )
    if payload["stopped"]:
        error = TimeoutError(
            f"{payload['stopped']}. The {len(result)} matches until then are in the attribute `found` of "
            "this error. Search a part of the text, or use a simpler pattern."
        )
        error.found = result  # type: ignore[attr-defined]
        raise error
    return result


def noted(result: SearchResult, name: str, limit: int, unit: str, other: str = "") -> SearchResult:
    """Returns the result of a search, after noting what is not in it.

    Args:
        result: The result.
        name: The method that searched.
        limit: Its limit.
        unit: The unit of the limit.
        other: Another way to count, for the note.
    """
    if result.more:
        stop = f"at its limit of {limit:,}" if len(result) >= limit else f"after {len(result):,}"
        way = (
            f"raise limit={other}"
            if len(result) >= limit
            else "search a part of the text at a time"
        )
        what = f"{name} stopped {stop} {unit}"
        note(what, f"there may be more; {way}", result.stopped)
    if any(isinstance(hit, GrepHit) and _is_cut(hit.line) for hit in result):
        note(
            f"{name} cut lines of more than 1,000 characters",
            "hit.line is the part around the match; text[hit.position:] goes on from the match",
        )
    if result.not_searched:
        listed = result.not_searched.removeprefix("[not searched: ").removesuffix("]")
        note(f"{name} passed over files", listed, result.not_searched)
    return result


def _is_cut(line: str) -> bool:
    return len(line) > 1000 and (line.startswith(_CUT) or line.endswith(_CUT))


def pattern_of(pattern: Any, flags: int, ignore_case: bool) -> tuple[str, int]:
    """Returns the text and the flags of a pattern, which may be an `re.Pattern`."""
    if isinstance(pattern, re.Pattern):
        pattern, flags = pattern.pattern, pattern.flags | flags
    return pattern, int(flags) | (int(re.IGNORECASE) if ignore_case else 0)
