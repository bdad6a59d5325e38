"""Scorers: ours, which are strict and read typed answers, and the rules of the published benchmarks, which read texts.

Each function compares an answer with the truth and returns a score from 0 to 1. An official rule gets the text of the answer, as a
harness that has only a model's reply would.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from datetime import date, datetime
from difflib import SequenceMatcher
from typing import Any

_WORD = re.compile(r"\w+")
_MARKS = re.compile(r"[*\[\]]")
_PAIR = re.compile(r"\(\s{0,9}(\d{1,18})\s{0,9},\s{0,9}(\d{1,18})\s{0,9}\)")
_LETTER = re.compile(r"The correct answer is \(?([A-D])\)?")

# ---- Ours ----


def same_text(answer: Any, truth: Any) -> float:
    """1 if the answer is the true text, without regard to case and to spaces around it."""
    return float(isinstance(answer, str) and answer.strip().casefold() == truth.casefold())


def same_number(answer: Any, truth: Any) -> float:
    """1 if the answer is the true number."""
    return float(isinstance(answer, int) and not isinstance(answer, bool) and answer == truth)


def same_set(answer: Any, truth: Any) -> float:
    """1 if the answer has each true item exactly once, in any order, and nothing else."""
    if not isinstance(answer, list | tuple):
        return 0.0
    return float(Counter(map(_plain, answer)) == Counter(map(_plain, truth)))


def f1_of_pairs(answer: Any, truth: Any) -> float:
    """The F1 score of the pairs. Each pair must be ordered, lower ID first; a pair that comes twice counts as one wrong pair."""
    if not isinstance(answer, list | tuple):
        return 0.0
    return f1(Counter(map(_plain, answer)), Counter(map(_plain, truth)))


def exact_text(answer: Any, truth: Any) -> float:
    """1 if the answer is the true text, except for spaces around it."""
    return float(isinstance(answer, str) and answer.strip() == truth.strip())


def _plain(item: Any) -> Any:
    return tuple(item) if isinstance(item, list | tuple) else item


def f1(answer: Counter[Any], truth: Counter[Any]) -> float:
    """Returns the F1 score of two bags; 1 if both are empty."""
    if not answer and not truth:
        return 1.0
    common = sum((answer & truth).values())
    return 2 * common / (sum(answer.values()) + sum(truth.values()))


# ---- RULER ----


def ruler_all(answer: Any, truth: Any) -> float:
    """RULER's `string_match_all`: the share of true texts that occur in the reply, without regard to case.

    Ours wants the typed answer and nothing else; this rule gives full marks to a reply that repeats the whole context.
    https://github.com/NVIDIA/RULER/blob/main/scripts/eval/synthetic/constants.py
    """
    text = _text(answer).lower()
    wanted = truth if isinstance(truth, list) else [truth]
    return sum(str(item).lower() in text for item in wanted) / len(wanted)


# ---- OOLONG ----

_COMPARISONS = ("more common", "less common", "same frequency")


def oolong(answer: Any, truth: Any) -> float:
    """OOLONG's rule: the text after the last colon, exact; a number earns 0.75 to the power of its distance; dates as dates.

    Ours gives a number that is off by one nothing, and does not search a reply for its answer.
    https://github.com/abertsch72/oolong/blob/main/src/eval/eval_helpers.py
    """
    found = _oolong_answer(_text(answer))
    if found == str(truth):
        return 1.0
    if found in _COMPARISONS:
        return float(found in str(truth))
    if isinstance(truth, int):
        return 0.75 ** abs(truth - int(found))
    if isinstance(truth, date):
        return float(_date(found) == truth)
    return 0.0


def _oolong_answer(reply: str) -> str:
    if ":" not in reply:
        return reply if len(reply) < 20 else reply.split()[-1]
    found = _MARKS.sub("", reply.rpartition(":")[2].strip())
    if len(found) < 20:
        return found
    return next((phrase for phrase in _COMPARISONS if phrase in found), found)


def _date(text: str) -> date | None:
    for form in ("%Y-%m-%d", "%b %d, %Y", "%B %d, %Y", "%d %B %Y", "%m/%d/%Y"):
        try:
            return datetime.strptime(text.strip(), form).date()
        except ValueError:
            continue
    return None


def oolong_pairs(answer: Any, truth: Any) -> float:
    """The F1 score of the set of pairs, as the paper of RLMs reports it; the order within a pair and repeats do not matter.

    The paper publishes the metric and not its parser. This one takes every two numbers in parentheses, after implementations of the
    benchmark. Ours wants ordered pairs without repeats.
    https://arxiv.org/abs/2512.24601
    """
    pairs = {tuple(sorted(pair)) for pair in _pairs(answer)}
    return f1(Counter(pairs), Counter({tuple(sorted(pair)) for pair in truth}))


def _pairs(answer: Any) -> Collection[tuple[int, int]]:
    if isinstance(answer, list | tuple):
        return [(int(first), int(second)) for first, second in answer]
    found = _PAIR.findall(_text(answer))
    return [(int(first), int(second)) for first, second in found]


# ---- MRCR, GraphWalks, RepoQA, multiple choice ----

_PREFIX_CHARS = 10


def mrcr(answer: Any, truth: Any) -> float:
    """OpenAI's rule for MRCR: 0 without the random prefix, otherwise the ratio of `difflib.SequenceMatcher` of what follows.

    Ours wants the text exactly.
    https://huggingface.co/datasets/openai/mrcr
    """
    reply, prefix = _text(answer).strip(), truth[:_PREFIX_CHARS]
    if not reply.startswith(prefix):
        return 0.0
    return SequenceMatcher(None, reply.removeprefix(prefix), truth.removeprefix(prefix)).ratio()


def graphwalks(answer: Any, truth: Any) -> float:
    """OpenAI's rule for GraphWalks: the F1 score of the set of nodes, which stand in brackets in the reply's last line.

    Ours wants exactly the true nodes. This one forgives nodes that are missing or too many, in part. A typed list counts as its set.
    https://huggingface.co/datasets/openai/graphwalks
    """
    if isinstance(answer, list | tuple):
        nodes = set(map(str, answer))
    else:
        lines = _text(answer).strip().splitlines() or [""]
        found = lines[-1].lower().rpartition("final answer:")[2].strip()
        listed = found[1:-1].split(",") if found[:1] == "[" and found[-1:] == "]" else ()
        nodes = {part.strip() for part in listed if part.strip()}
    return f1(Counter(nodes), Counter(set(truth)))


def repoqa(answer: Any, truth: Any) -> float:
    """1 if the reply names the function: as its last word, or in a definition that it quotes.

    RepoQA asks for the code of the function, and accepts a reply whose BLEU with the true code is at least 0.8 and higher than with any
    other function. This task asks for the name, so what is left of the rule is whether the reply is about the right function. Ours wants
    the name alone.
    https://github.com/evalplus/repoqa
    """
    words = _WORD.findall(_text(answer))
    return float(words[-1:] == [truth] or f"def {truth}" in " ".join(words))


def letter(answer: Any, truth: Any) -> float:
    """LongBench v2's rule: the letter in "The correct answer is (X)" or "The correct answer is X"; without this phrase, nothing.

    Ours wants the letter alone. A typed answer that is the letter alone counts here too.
    https://github.com/THUDM/LongBench/blob/main/pred.py
    """
    reply = _text(answer).replace("*", "").strip()
    found = _LETTER.search(reply)
    return float((found[1] if found else reply) == truth)


def contains(answer: Any, truth: Any) -> float:
    """1 if the reply contains the true text, without regard to case, punctuation and spaces.

    BrowseComp-Plus lets a language model judge; this is the usual rule without one. Ours wants the text alone.
    https://github.com/texttron/BrowseComp-Plus
    """
    return float(_words(truth) in _words(_text(answer)))


def same_words(answer: Any, truth: Any) -> float:
    """1 if the answer is the true text, without regard to case, punctuation and spaces."""
    return float(_words(_text(answer)) == _words(_text(truth)))


def _words(text: str) -> str:
    return " ".join(_WORD.findall(text.casefold()))


def _text(answer: Any) -> str:
    return answer if isinstance(answer, str) else str(answer)
