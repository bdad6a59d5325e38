"""One table from many files: typed records, each with its file and a quote, checked against the files' own totals.

    python examples/extract_files.py
    python examples/extract_files.py FOLDER

Sixty invoices in three layouts. Scripted policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import argparse
import datetime
import re
import tempfile
from pathlib import Path

import dspy
import pydantic

import dspy_rlm
from dspy_rlm import Directory, Quote
from dspy_rlm.testing import Action, choose_models, fields, policy


class Invoice(pydantic.BaseModel):
    """One invoice."""

    file: str
    number: str
    date: datetime.date
    cents: int
    evidence: Quote


class Extract(dspy.Signature):
    """Extract every invoice of the folder. The evidence is the line with the total, verbatim."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    invoices: Directory = dspy.InputField(desc="the files by path")
    table: list[Invoice] = dspy.OutputField()


def write_invoices(folder: Path) -> int:
    """Writes the files; returns the sum of their totals in cents."""
    total = 0
    for n in range(60):
        cents, date = 1_000 + n * 7_919 % 90_000, datetime.date(2026, 1 + n % 12, 1 + n % 28)
        total += cents
        number, amount = f"R-{2026_000 + n}", f"{cents / 100:.2f}"
        text = (
            f"INVOICE {number}\nDate: {date:%d.%m.%Y}\n\nWork as agreed\nTotal due: EUR {amount}\n",
            f"Invoice no. {number} of {date:%B %d, %Y}\nitems ...\nAmount payable {amount} EUR\n",
            f"number;{number}\nissued;{date:%Y-%m-%d}\nsum;{amount}\n",
        )[n % 3]
        (folder / f"{n:02}.txt").write_text(text)
    return total


READ = """
rows = predict_batched(
    'text -> number: str, date: datetime.date, cents: int, line: str',
    [{'text': invoices[path][:]} for path in invoices],
)
table = [
    dict(file=path, number=r.number, date=r.date, cents=r.cents, evidence=r.line)
    for path, r in zip(invoices, rows) if r in rows.ok
]
print(len(table), 'of', len(invoices), '; failed:', rows.failed)
"""

CHECK = """
import re
wrong = [t['file'] for t in table if f"{t['cents'] / 100:.2f}" not in t['evidence']]
print('numbers twice:', len(table) - len({t['number'] for t in table}), '; amount not in the quote:', wrong)
"""


@policy
def root(task):
    """Plays the root LM: one typed question per file, all at once, and a check by code."""
    yield Action(
        "Look at one file of the folder.",
        "print(len(invoices), list(invoices)[:3])\nprint(invoices[list(invoices)[0]][:])",
    )
    yield Action("Layouts differ: the sub-LM reads each file, with types.", READ)
    yield Action("Check what can be checked.", CHECK)
    yield Action("All files, no contradiction.", "SUBMIT(table=table)")


def read(inputs):
    """Plays the sub-LM: reads one invoice of any of the three layouts."""
    text = inputs["text"]
    number = re.search(r"R-\d+", text)[0]
    line = re.search(
        r"^.*\d+\.\d\d\b(?!\.\d).*$", text[text.index("\n", text.index("\n") + 1) :], re.MULTILINE
    )[0]
    cents = round(float(re.search(r"\d+\.\d\d", line)[0]) * 100)
    for pattern, form in (
        (r"\d\d\.\d\d\.\d{4}", "%d.%m.%Y"),
        (r"[A-Z][a-z]+ \d\d, \d{4}", "%B %d, %Y"),
        (r"\d{4}-\d\d-\d\d", "%Y-%m-%d"),
    ):
        if found := re.search(pattern, text):
            date = datetime.datetime.strptime(found[0], form).date()
            return {"number": number, "date": date.isoformat(), "cents": cents, "line": line}
    raise ValueError(text)


def main() -> None:
    """Extracts the table, and compares its sum with that of the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path)
    options = parser.parse_args()
    models = choose_models(root, fields(read))
    with tempfile.TemporaryDirectory() as made, dspy.context(lm=models.root):
        folder = options.folder or Path(made)
        expected = None if options.folder else write_invoices(folder)
        rlm = dspy_rlm.RLM(Extract, sub_lm=models.sub, max_llm_calls=100)
        found = rlm(invoices=Directory(folder, pattern="**/*.txt"))
        for invoice in found.table[:3]:
            print(
                invoice.file,
                invoice.number,
                invoice.date,
                f"{invoice.cents / 100:.2f}",
                "|",
                invoice.evidence.text,
            )
        total = sum(invoice.cents for invoice in found.table)
        print(
            f"{len(found.table)} invoices, {total / 100:.2f} in all, {len(found.run.sub_calls)} calls"
        )
    if models.scripted and expected is not None:
        assert total == expected


if __name__ == "__main__":
    main()
