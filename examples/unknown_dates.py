"""Dates in unknown formats: which come first, days or months? Each source says it by its own unambiguous dates.

    python examples/unknown_dates.py                     # 20,000 dates of 12 sources, of which the truth is known
    python examples/unknown_dates.py dates.csv           # columns `source` and `text`

Scripted policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import argparse
import datetime
import random
import re
from pathlib import Path
from typing import Literal

import dspy

import dspy_rlm
from dspy_rlm.sources import load
from dspy_rlm.testing import Action, choose_models, fields, policy


class ReadDates(dspy.Signature):
    """Read the dates of several sources. A source writes all its dates in the same order."""

    rows: list[dict[str, str]] = dspy.InputField(desc="`source` and `text` of each date")
    dates: list[datetime.date | None] = dspy.OutputField(
        desc="one for each row; None where nothing can be known"
    )
    order: dict[str, Literal["day first", "month first", "not numeric", "unknown"]] = (
        dspy.OutputField(desc="of each source")
    )


def as_many_dates_as_rows(rows, dates, order):
    """One date for each row, and the order of each source."""
    if len(dates) != len(rows):
        return f"{len(dates)} dates for {len(rows)} rows"
    return set(order) == {row["source"] for row in rows}


LOOK = r"""
import re
from collections import Counter, defaultdict
shape = lambda text: re.sub(r'[A-Za-z]+', 'A', re.sub(r'\d', '9', text))
shapes = Counter(shape(row['text']) for row in rows)
print(len(rows), 'rows,', len(shapes), 'shapes')
for form, n in shapes.most_common(12):
    print(n, form, '|', next(row['text'] for row in rows if shape(row['text']) == form))
"""

RULES = r"""
import datetime
MONTHS = {m: i for i, m in enumerate('jan feb mar apr may jun jul aug sep oct nov dec'.split(), 1)}
def numbers(text):
    return [int(n) for n in re.findall(r'\d+', text)]
def numeric(text):
    return re.fullmatch(r'\d{1,2}[./-]\d{1,2}[./-]\d{4}', text)
votes = defaultdict(Counter)  # a number above 12 is a day
for row in rows:
    if numeric(row['text']):
        a, b, _ = numbers(row['text'])
        if a > 12 or b > 12:
            votes[row['source']]['day first' if a > 12 else 'month first'] += 1
order = {}
for source in {row['source'] for row in rows}:
    kinds = votes[source]
    is_numeric = any(numeric(row['text']) for row in rows if row['source'] == source)
    order[source] = 'not numeric' if not is_numeric else next(iter(kinds)) if len(kinds) == 1 else 'unknown'
print(order)
print({source: dict(kinds) for source, kinds in votes.items() if len(kinds) > 1} or 'no source contradicts itself')
"""

PARSE = r"""
def parse(row):
    text, found = row['text'], numbers(row['text'])
    try:
        if re.fullmatch(r'\d{4}-\d\d-\d\d(T.*)?', text):
            return datetime.date(*found[:3])
        if re.fullmatch(r'\d{8}', text):
            return datetime.datetime.strptime(text, '%Y%m%d').date()
        if re.fullmatch(r'1[0-9]{9}', text):
            return datetime.datetime.fromtimestamp(int(text), datetime.UTC).date()
        if numeric(text) and order[row['source']] != 'unknown':
            a, b, year = found
            return datetime.date(year, b, a) if order[row['source']] == 'day first' else datetime.date(year, a, b)
        word = next((MONTHS[w[:3].lower()] for w in re.findall(r'[A-Za-z]{3,}', text) if w[:3].lower() in MONTHS), None)
        if word and len(found) == 2:
            return datetime.date(max(found), word, min(found))
    except ValueError:
        return None
dates = [parse(row) for row in rows]
rest = [i for i, date in enumerate(dates) if date is None and not numeric(rows[i]['text'])]
texts = sorted({rows[i]['text'] for i in rest})
print(sum(d is not None for d in dates), 'read by code,', len(rest), 'left, with', len(texts), 'texts such as', texts[:4])
"""

ASK = r"""
answers = predict_batched('text -> day: datetime.date | None', [{'text': text} for text in texts])
by_text = {text: row.day for text, row in zip(texts, answers) if row in answers.ok}
for i in rest:
    dates[i] = by_text.get(rows[i]['text'])
print(sum(d is None for d in dates), 'without a date')
SUBMIT(dates=dates, order=order)
"""


@policy
def root(task):
    """Plays the root LM: shapes first, then the order of each source, then code, and the sub-LM for the rest."""
    yield Action("Which shapes are there?", LOOK)
    yield Action("Days and months: each source tells by its numbers above 12.", RULES)
    yield Action("Code reads what has a rule.", PARSE)
    yield Action("The sub-LM reads the texts that are left, each different one once.", ASK)


@fields
def sub(inputs):
    """Plays the sub-LM: it knows ordinals in words, and French months."""
    text = inputs["text"]
    french = {
        "janvier": 1,
        "février": 2,
        "mars": 3,
        "avril": 4,
        "mai": 5,
        "juin": 6,
        "juillet": 7,
        "août": 8,
    }
    french |= {"septembre": 9, "octobre": 10, "novembre": 11, "décembre": 12}
    match = re.fullmatch(r"le (\d+) (\w+) (\d{4})", text)
    return {"day": datetime.date(int(match[3]), french[match[2]], int(match[1])) if match else None}


FORMATS = {
    "archive": "%d/%m/%Y", "bank": "%d.%m.%Y", "shop": "%m/%d/%Y", "log": "%Y-%m-%dT%H:%M:%SZ", "index": "%Y%m%d", "letters": "%d %B %Y",
    "press": "%B %d, %Y", "mail": "%a, %d %b %Y", "sensor": "epoch", "paris": "french", "clerk": "%m-%d-%Y", "blank": "nothing",
}  # fmt: skip
FRENCH = [
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
]


def make_rows(count: int) -> tuple[list[dict[str, str]], list[datetime.date | None]]:
    """Returns rows of twelve sources, and the true dates."""
    chance, rows, truth = random.Random(5), [], []
    for number in range(count):
        source, form = list(FORMATS.items())[number % len(FORMATS)]
        moment = datetime.datetime(2005, 1, 1, 12, tzinfo=datetime.UTC) + datetime.timedelta(
            chance.randrange(7300)
        )
        text = moment.strftime(form)
        if form == "epoch":
            text = str(int(moment.timestamp()))
        elif form == "french":
            text = f"le {moment.day} {FRENCH[moment.month - 1]} {moment.year}"
        elif form == "nothing":
            text = chance.choice(["n/a", "soon", "see letter"])
        rows.append({"source": source, "text": text})
        truth.append(None if form == "nothing" else moment.date())
    return rows, truth


def ask(rows: list[dict[str, str]], models) -> dspy.Prediction:
    """Reads the dates of the rows."""
    rlm = dspy_rlm.RLM(
        ReadDates, sub_lm=models.sub, max_llm_calls=2_000, validators=[as_many_dates_as_rows]
    )
    with dspy.context(lm=models.root):
        return rlm(rows=rows)


def main(arguments: list[str] | None = None) -> dspy.Prediction:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--count", type=int, default=20_000)
    options = parser.parse_args(arguments)
    rows, truth = (load(options.file), None) if options.file else make_rows(options.count)
    prediction = ask([dict(row) for row in rows], choose_models(root, sub))
    for source, order in sorted(prediction.order.items()):
        at = next(i for i, row in enumerate(rows) if row["source"] == source)
        print(f"  {source:8} {order:12} {rows[at]['text']:24} -> {prediction.dates[at]}")
    if truth:
        wrong = sum(mine != right for mine, right in zip(prediction.dates, truth, strict=True))
        print(f"{len(truth)} dates, {wrong} wrong (scripted policy)")
    return prediction


if __name__ == "__main__":
    main()
