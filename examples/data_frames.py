"""A DataFrame in, a DataFrame out: free-text complaints become categories, and the table is summed up exactly.

    python examples/data_frames.py

Needs pandas. Scripted policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import dspy
import pandas as pd
import pydantic

import dspy_rlm
from dspy_rlm.testing import Action, choose_models, fields, policy

TEXTS = {
    "delivery": ["arrived a week late", "the courier never rang", "still waiting for the parcel"],
    "quality": ["broke on the first day", "the colour faded", "a button was missing"],
    "billing": ["charged twice", "the discount was not applied"],
}


class Categorize(dspy.Signature):
    """Give each complaint a category (delivery, quality or billing), and sum up the refunds by category and month."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)

    complaints: pd.DataFrame = dspy.InputField(desc="columns: when, text, refund")
    summary: pd.DataFrame = dspy.OutputField(desc="columns: month, category, complaints, refunds")


def table() -> pd.DataFrame:
    """Returns three thousand complaints of a quarter; many say the same."""
    texts = [text for group in TEXTS.values() for text in group]
    return pd.DataFrame(
        {
            "when": pd.date_range("2026-01-01", periods=3_000, freq="43min"),
            "text": [texts[n * 7 % len(texts)] for n in range(3_000)],
            "refund": [round(5 + n % 40 * 0.5, 2) for n in range(3_000)],
        }
    )


ASK = """
distinct = sorted(set(complaints['text'].tolist()))
rows = predict_batched(
    'text -> category: Literal["delivery", "quality", "billing"]', [{'text': t} for t in distinct]
)
category = {t: row.category for t, row in zip(distinct, rows)}
print(len(complaints), 'rows,', len(distinct), 'texts:', category)
"""

COUNT = """
from collections import defaultdict
groups = defaultdict(lambda: [0, 0.0])
for row in complaints.rows():
    group = groups[f'{row.when:%Y-%m}', category[row.text]]
    group[0] += 1
    group[1] += row.refund
summary = [dict(month=m, category=c, complaints=n, refunds=round(r, 2)) for (m, c), (n, r) in sorted(groups.items())]
print(summary[:2], sum(r['complaints'] for r in summary))
"""


@policy
def root(task):
    """Plays the root LM: equal texts are asked about once, sums are left to code."""
    yield Action(
        "What is in the table?", "print(complaints.shape, complaints.columns, complaints.head(3))"
    )
    yield Action("Few texts are distinct. Ask about each once.", ASK)
    yield Action("Sums are code's work.", COUNT)
    yield Action("Every row is counted.", "SUBMIT(summary=summary)")


sub = fields(
    lambda inputs: {
        "category": next(name for name, texts in TEXTS.items() if inputs["text"] in texts)
    }
)


def main() -> None:
    """Categorizes the complaints, and prints the resulting DataFrame."""
    models = choose_models(root, sub)
    complaints = table()
    rlm = dspy_rlm.RLM(Categorize, sub_lm=models.sub, max_llm_calls=20)
    with dspy.context(lm=models.root):
        prediction = rlm(complaints=complaints)
    summary = prediction.summary
    print(summary.to_string(index=False))
    print(
        f"{type(summary).__name__} of {len(summary)} rows; {len(prediction.run.sub_calls)} calls for {len(complaints)} rows"
    )
    if models.scripted:
        assert summary["complaints"].sum() == len(complaints)
        assert abs(summary["refunds"].sum() - complaints["refund"].sum()) < 0.01


if __name__ == "__main__":
    main()
