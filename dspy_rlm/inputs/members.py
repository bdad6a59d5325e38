"""The files of an archive, each as a temporary file. Their paths are names and no more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dspy_rlm.inputs.converting import Converted, checked
from dspy_rlm.inputs.items import Item
from dspy_rlm.inputs.spool import Spool

_Spans = list[tuple[int, int]]
"""The bytes of a file among the records, by their offsets and sizes."""


def members(item: Item, spool: Spool, most_bytes: int) -> Iterator[tuple[str, Path]]:
    """Yields the files of an archive by name, sorted. The reasons for which others are left out go to `item.left_out`.

    Raises:
        InputError: The archive cannot be read.
    """
    converted = item.converted()
    for name, spans in sorted(_spans(converted, item).items()):
        yield name, spool.write(converted.read(spans), f"{name} in {item.name}", most_bytes)


def _spans(converted: Converted, item: Item) -> dict[str, _Spans]:
    found: dict[str, _Spans] = {}
    spans: _Spans = []
    name = ""
    with checked(item.name):
        for record in converted.records():
            if "member" in record:
                # Of two members of one name the last counts, as when they are extracted.
                name = str(record["member"])
                spans = found[name] = []
            elif "data" in record:
                spans.append((record["at"], record["data"]))
            elif "broken" in record:
                found.pop(name, None)
            elif "left_out" in record:
                item.left_out.append((str(record["left_out"]), int(record["count"])))
    return found
