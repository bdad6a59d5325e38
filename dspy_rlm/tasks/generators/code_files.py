"""The standard library as a context: files with a heading each, enough of them for a length."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import count

from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.library import sources

HEADING = "######## FILE: {path} ########"
_HEADING = re.compile(r"^######## FILE: (\S+) ########$", re.MULTILINE)
_MAX_FILE_CHARS = 60_000


def files(draws: Draws, chars: int, wanted: str) -> dict[str, str]:
    """Returns files of the library by path, in random order, of about `chars` characters together.

    The library has some 6 million characters in files of at most 60,000. A longer context repeats it below other folders, as
    repositories do that carry copies of their dependencies.

    Args:
        draws: The draws that decide on the files and their order.
        chars: The length of the context.
        wanted: The path of a file that has to be among them.
    """
    found = [(wanted, sources()[wanted])]
    left = chars - _cost(*found[0])
    misses = 0
    for path, text in _endless(draws):
        cost = _cost(path, text)
        if path == wanted:
            continue
        if cost <= left:
            found.append((path, text))
            left -= cost
        else:
            misses += 1
        if misses > 20:
            break
    draws.shuffle(found)
    return dict(found)


def _cost(path: str, text: str) -> int:
    return len(HEADING.format(path=path)) + len(text) + 2


def paths(draws: Draws, chars: int) -> Iterator[str]:
    """Yields the paths of files that fit into a context, in random order without end."""
    fitting = [path for path, text in _texts().items() if _cost(path, text) <= chars]
    while True:
        yield draws.choice(fitting)


def _texts() -> dict[str, str]:
    return {path: text for path, text in sources().items() if 0 < len(text) <= _MAX_FILE_CHARS}


def _endless(draws: Draws) -> Iterator[tuple[str, str]]:
    texts = _texts()
    order = list(texts)
    for number in count():
        draws.shuffle(order)
        folder = f"vendored_{number}/" if number else ""
        yield from ((folder + path, texts[path]) for path in order)


def text_of(found: Mapping[str, str]) -> str:
    """Returns the context: each file below its heading."""
    return "\n".join(f"{HEADING.format(path=path)}\n{text}" for path, text in found.items())


def read(context: str) -> dict[str, str]:
    """Returns the files of a context by path."""
    parts = _HEADING.split(context)
    return {
        path: text.removeprefix("\n").removesuffix("\n") + "\n"
        for path, text in zip(parts[1::2], parts[2::2], strict=True)
    }
