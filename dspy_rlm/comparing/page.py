"""The result of a comparison as one HTML page, without script and without network, in the look of the viewer.

Its policy allows its own style sheet by its hash and nothing else. All text of models and of items is escaped.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dspy_rlm.comparing.advice import interval_text, range_text, tokens_text
from dspy_rlm.comparing.picture import cost_picture, length_picture
from dspy_rlm.comparing.statistics import Bin
from dspy_rlm.comparing.text import HEADINGS, figures, heading, notes
from dspy_rlm.reports.text import count
from dspy_rlm.viewer.escaping import escaped
from sandbox_runtime.helpers import abridged

if TYPE_CHECKING:
    from dspy_rlm.comparing.result import ComparisonResult
    from dspy_rlm.comparing.rows import Row

STYLE = Path(__file__).with_name("page.css")

# Items that are listed one by one.
MAX_LISTED = 500

# Characters of an answer or an error in a cell of a table.
CELL_CHARS = 160


def page_of(result: ComparisonResult) -> str:
    """Returns the page of a comparison."""
    title = f"Comparison: {result.name}" if result.name else "Comparison of systems"
    return document(title, "".join(_sections(result, title)))


def document(title: str, body: str) -> str:
    """Returns a page with this body, which is HTML."""
    style = STYLE.read_text("utf-8")
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escaped(title)}</title>\n<style>{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _sections(result: ComparisonResult, title: str) -> Iterable[str]:
    yield f'<h1>{escaped(title)}</h1>\n<p class="quiet">{escaped(heading(result))}</p>\n'
    models = [f"{name}: {models}" for name, models in result.models.items() if models]
    if models:
        yield f'<p class="quiet">Models: {escaped("; ".join(models))}.</p>\n'
    if said := notes(result):
        yield '<div class="notes">' + "".join(f"<p>{escaped(one)}</p>" for one in said) + "</div>\n"
    yield '<h2>Recommendation</h2>\n<ul class="advice">\n'
    for one in result.advice:
        kind = one.verdict.replace(" ", "-")
        yield f'<li class="{kind}">{escaped(one.text)}</li>\n'
    yield "</ul>\n"
    yield from pictures(result)
    yield "<h2>All items</h2>\n"
    yield summaries(result.overall, "")
    yield differences(result.overall)
    if len(result.bins) > 1:
        yield "<h2>By length</h2>\n"
        for found in result.bins:
            caption = f"{range_text(found.low, found.high)}, {count(found.items, 'item')}"
            yield summaries(found, caption)
    yield from failures(result)
    yield from _items(result)
    yield (
        '<p class="quiet">Scores with 95 % intervals: Wilson where an answer is right or wrong, else a bootstrap; differences by '
        "a paired bootstrap over the items, each interval by itself. Costs, tokens and seconds are of one item; p90 is the 90th "
        "percentile.</p>"
    )


def pictures(result: ComparisonResult) -> Iterable[str]:
    """Yields the pictures that there is data for."""
    titles = ("Score and cost", "Score and length")
    for title, picture in zip(
        titles, (cost_picture(result.overall), length_picture(result.bins)), strict=True
    ):
        if picture:
            yield f'<h2>{title}</h2>\n<figure class="panel">{picture}</figure>\n'


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "", words: int = 0
) -> str:
    """Returns a table of plain text; the last `words` columns hold sentences."""
    first = len(heads) - words

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=' + chr(34) + 'words' + chr(34) if index >= first else ''}>{escaped(cell)}</{tag}>"
            for index, cell in enumerate(row)
        )

    top = f"<caption>{escaped(caption)}</caption>" if caption else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>\n" for row in rows)
    return (
        f'<div class="scroll panel" tabindex="0"><table>{top}<thead><tr>{cells("th", heads)}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>\n"
    )


def summaries(found: Bin, caption: str) -> str:
    """Returns the table of the systems over some items."""
    return table(HEADINGS, (figures(one) for one in found.systems), caption)


def differences(found: Bin) -> str:
    """Returns the table of the differences between each two systems."""
    names = [one.system for one in found.systems]
    rows = [
        (f"{one} less {other}", interval_text(gap), _verdict(gap.low, gap.high))
        for index, one in enumerate(names)
        for other in names[index + 1 :]
        for gap in [found.differences[one, other]]
    ]
    return (
        table(("difference of the scores", "95 % interval", "verdict"), rows, words=1)
        if rows
        else ""
    )


def _verdict(low: float, high: float) -> str:
    if low > 0:
        return "the first is better"
    if high < 0:
        return "the second is better"
    return "not decided: the interval includes 0"


def failures(result: ComparisonResult) -> Iterable[str]:
    """Yields the failures of each system by kind, with an example of each."""
    rows = []
    for one in result.overall.systems:
        for kind, times in one.failures.items():
            example = next(
                row for row in result.rows if row.system == one.system and row.failure == kind
            )
            rows.append((one.system, f"{times:,}", kind, abridged(example.error, CELL_CHARS)))
    if rows:
        yield "<h2>Failures</h2>\n"
        yield table(("system", "items", "kind", "an example"), rows, words=2)


def _items(result: ComparisonResult) -> Iterable[str]:
    shown = result.pairs[:MAX_LISTED]
    if not shown:
        return
    rest = f" (the first {MAX_LISTED})" if len(result.pairs) > MAX_LISTED else ""
    yield f"<details><summary>Items one by one{rest}</summary>\n"
    heads = ["item", "tokens", *result.systems, *(f"answer of {name}" for name in result.systems)]
    rows = [
        [
            str(next(iter(pair.values())).number),
            tokens_text(next(iter(pair.values())).length),
            *(f"{pair[name].score:g}" for name in result.systems),
            *(_answer(pair[name]) for name in result.systems),
        ]
        for pair in shown
    ]
    yield table(heads, rows, words=len(result.systems))
    yield "</details>\n"


def _answer(row: Row) -> str:
    if row.failure:
        return f"{row.failure}: {abridged(row.error, CELL_CHARS)}"
    outputs = row.outputs
    text = str(next(iter(outputs.values()))) if len(outputs) == 1 else str(dict(outputs))
    return abridged(text, CELL_CHARS)
