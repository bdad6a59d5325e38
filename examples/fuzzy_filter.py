"""Reviews: a filter that no word list can express, and those whose text contradicts their stars.

    python examples/fuzzy_filter.py
    python examples/fuzzy_filter.py reviews.csv -f "complains about the delivery"    # columns `stars` and `text`

The reviews are remarks that the authors of Python's library left about its code; the stars are made up, and some are wrong on purpose. Scripted
policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import argparse
import random
import re
from pathlib import Path

import dspy
import pydantic
from real_text import remarks

import dspy_rlm
from dspy_rlm import Quote
from dspy_rlm.sources import load
from dspy_rlm.testing import Action, choose_models, fields, policy


class Match(pydantic.BaseModel):
    """A review that passes the filter."""

    index: int
    because: Quote = pydantic.Field(description="the words of the review that decide it")


class Outlier(pydantic.BaseModel):
    """A review whose stars contradict its text."""

    index: int
    stars: int
    stars_of_text: int = pydantic.Field(
        ge=1, le=5, description="what a reader of the text alone would expect"
    )


class FilterReviews(dspy.Signature):
    """Select the reviews that meet a criterion, and separately those whose stars contradict their text."""

    reviews: list[dict] = dspy.InputField(desc="`stars` from 1 to 5, and `text`")
    criterion: str = dspy.InputField()
    matches: list[Match] = dspy.OutputField()
    outliers: list[Outlier] = dspy.OutputField(desc="where they differ by 3 or more")
    borderline: list[int] = dspy.OutputField(desc="reviews for a person to decide")


def matches_quote_their_review(reviews, matches, outliers, borderline):
    """The words of a match are in that review; an outlier has that review's stars; nothing is decided twice."""
    for match in matches:
        if match.because.text not in reviews[match.index]["text"]:
            return f"{match.because.text!r} is not in review {match.index}"
    for outlier in outliers:
        stars = int(reviews[outlier.index]["stars"])
        if stars != outlier.stars or abs(stars - outlier.stars_of_text) < 3:
            return f"review {outlier.index} has {stars} stars, and its text {outlier.stars_of_text}"
    both = {match.index for match in matches} & set(borderline)
    return f"both decided and borderline: {sorted(both)}" if both else None


JUDGE = """
texts = [review['text'] for review in reviews]
rows = predict_batched(
    'text, criterion -> meets: bool, sure: bool, words: str, stars_of_text: int',
    [{'text': text} for text in texts], criterion=criterion,
)
judged = {i: row for i, row in enumerate(rows) if row in rows.ok}
print(len(judged), 'of', len(texts), 'judged;', sum(r.meets for r in judged.values()), 'meet it')
"""

CHECK = """
matches, borderline = [], []
for i, row in judged.items():
    if row.meets and row.sure and row.words in texts[i]:
        matches.append({'index': i, 'because': row.words})
    elif row.meets or not row.sure:
        borderline.append(i)
outliers = [
    {'index': i, 'stars': reviews[i]['stars'], 'stars_of_text': row.stars_of_text}
    for i, row in judged.items() if abs(row.stars_of_text - reviews[i]['stars']) >= 3
]
print(len(matches), 'matches,', len(borderline), 'borderline,', len(outliers), 'outliers')
for match in matches[:3]:
    print(match, texts[match['index']][:80])
"""


@policy
def root(task):
    """Plays the root LM: one typed judgement for each review, then rules for what is sure."""
    yield Action("What is a review?", "print(len(reviews), reviews[0])\nprint(criterion)")
    yield Action("No word list decides this: the sub-LM reads each review by itself.", JUDGE)
    yield Action(
        "Sure ones are matches, doubtful ones go to a person; stars are compared by code.", CHECK
    )
    yield Action("Submit.", "SUBMIT(matches=matches, outliers=outliers, borderline=borderline)")


SLOW = re.compile(r"\b(slow|expensive|inefficient|performance|overhead)\b", re.IGNORECASE)
BAD = re.compile(
    r"\b(ugly|slow|hack|sadly|unfortunately|broken|wrong|expensive|annoying|obscure|painful|stupid|bad)\b",
    re.I,
)
GOOD = re.compile(r"\b(fast|nice|safe|efficient|simple|clever|better|good)\b", re.IGNORECASE)


def stars_of(text: str) -> int:
    """Returns the stars that the words of a text suggest."""
    return max(1, min(5, 3 + 2 * len(GOOD.findall(text)) - 2 * len(BAD.findall(text))))


@fields
def sub(inputs):
    """Plays the sub-LM: words for speed decide, and "not" makes it unsure."""
    text = inputs["text"]
    match = SLOW.search(text)
    sure = not re.search(r"\b(not|n't|but)\b", text)
    return {
        "meets": bool(match),
        "sure": sure,
        "words": match[0] if match else "",
        "stars_of_text": stars_of(text),
    }


def make_reviews(*packages: str) -> tuple[list[dict], set[int]]:
    """Returns reviews with stars, and the indexes of those whose stars were turned round."""
    chance = random.Random(11)
    reviews = [{"stars": stars_of(text), "text": text} for text in remarks(*packages)]
    extreme = [i for i, review in enumerate(reviews) if review["stars"] in (1, 5)]
    wrong = set(chance.sample(extreme, max(1, len(extreme) // 15)))
    for index in wrong:
        reviews[index]["stars"] = 6 - reviews[index]["stars"]
    return reviews, wrong


def ask(reviews: list[dict], criterion: str, models) -> dspy.Prediction:
    """Filters reviews."""
    calls = 10 + len(reviews)
    rlm = dspy_rlm.RLM(
        FilterReviews,
        sub_lm=models.sub,
        max_llm_calls=calls,
        validators=[matches_quote_their_review],
    )
    with dspy.context(lm=models.root):
        return rlm(reviews=reviews, criterion=criterion)


def main(arguments: list[str] | None = None) -> dspy.Prediction:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument(
        "-f", "--filter", default="says that something is slow or costs too much time"
    )
    parser.add_argument(
        "--packages", nargs="*", default=[], help="only these packages of the library"
    )
    options = parser.parse_args(arguments)
    reviews = (
        [dict(row) for row in load(options.file)]
        if options.file
        else make_reviews(*options.packages)[0]
    )
    prediction = ask(reviews, options.filter, choose_models(root, sub))
    for match in prediction.matches[:10]:
        print(f"  {match.index:5} {match.because.text!r:14} {reviews[match.index]['text'][:80]}")
    for outlier in prediction.outliers[:10]:
        text = reviews[outlier.index]["text"]
        print(
            f"  {outlier.index:5} {outlier.stars} stars, but reads like {outlier.stars_of_text}: {text[:60]}"
        )
    counts = f"{len(prediction.matches)} matches, {len(prediction.borderline)} for a person"
    print(f"{len(reviews)} reviews: {counts}, {len(prediction.outliers)} outliers")
    return prediction


if __name__ == "__main__":
    main()
