"""Questions about millions of words of transcripts, answered with quotes and times that are checked.

    python examples/transcripts.py                      # 3.4 million words, made from real text
    python examples/transcripts.py --words 100000
    python examples/transcripts.py FOLDER -q "What do they say about `deadlock`?"

Each line of a transcript is `[h:mm:ss] Speaker: words`. Scripted policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dspy
from real_text import lines_of_text

import dspy_rlm
from dspy_rlm import Directory, Quote
from dspy_rlm.testing import Action, choose_models, fields, policy


class AskTranscripts(dspy.Signature):
    """Answer a question about recordings. Every claim needs a moment: a whole line, verbatim, with its time and its speaker."""

    transcripts = dspy.InputField(
        desc="one file for each recording; lines are `[h:mm:ss] Speaker: words`"
    )
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    moments: list[Quote] = dspy.OutputField(desc="at most 10 lines, the most telling first")


def moments_have_times(moments):
    """Each moment begins with the time of its line."""
    return bool(moments) and all(re.match(r"\[\d+:\d\d:\d\d\] ", moment.text) for moment in moments)


SEARCH = r"""
import re
word = re.search(r'`(\w+)`', question)[1]
hits = transcripts.grep(rf'\b{word}\b', limit=200, before=1, after=1)
print(len(transcripts), 'recordings,', len(hits), 'hits')
for hit in hits[:3]:
    print(hit.path, hit.line_number, hit.line[:100])
"""

READ = r"""
passages = ['\n'.join([*hit.before, hit.line, *hit.after]) for hit in hits[:60]]
rows = predict_batched(
    'passage, question -> relevant: bool, quote: str', [{'passage': p} for p in passages], question=question
)
found = {}
for hit, row in zip(hits, rows):
    if row in rows.ok and row.relevant and row.quote in hit.line:
        found.setdefault(row.quote, hit.line)
moments = list(found.values())[:10]
print(len(moments), 'moments of', len(rows), 'passages')
answer = ' / '.join(list(found)[:3])
"""


@policy
def root(task):
    """Plays the root LM. Its first submission has a time from memory, and is refused."""
    yield Action("Millions of words: the host searches, I do not read.", SEARCH)
    yield Action("The sub-LM reads each passage with a hit, and quotes.", READ)
    yield Action(
        "Submit; the time of the first one I remember.",
        "draft = ['[0:00:07]' + moments[0][moments[0].index(']') + 1:], *moments[1:]]\n"
        "SUBMIT(answer=answer, moments=draft)",
    )
    yield Action(
        "Lines must be verbatim, with their times.", "SUBMIT(answer=answer, moments=moments)"
    )


@fields
def sub(inputs):
    """Plays the sub-LM: quotes the words of the line with the word in question."""
    word = inputs["question"].split("`")[1]
    line = next(line for line in inputs["passage"].splitlines() if word in line)
    said = line.partition(": ")[2]
    return {"relevant": len(said.split()) > 5, "quote": said}


def write_transcripts(folder: Path, words: int) -> int:
    """Writes recordings of some 90 minutes with so many words altogether; returns how many."""
    lines, written, number = _sentences(), 0, 0
    while written < words:
        number += 1
        clock = 0.0
        with (folder / f"episode-{number:03}.txt").open("w", encoding="utf-8") as file:
            for line in lines:
                count = len(line.split())
                stamp = f"{int(clock) // 3600}:{int(clock) // 60 % 60:02}:{int(clock) % 60:02}"
                file.write(f"[{stamp}] Speaker {'ABC'[int(clock) // 40 % 3]}: {line}\n")
                written, clock = written + count, clock + count / 2.5
                if clock > 5400 or written >= words:
                    break
    return number


def _sentences() -> Iterator[str]:
    while True:
        for line in lines_of_text():
            if text := " ".join(line.split()).strip('#" '):
                yield text


def ask(folder: Path, question: str, models) -> dspy.Prediction:
    """Answers a question about the transcripts in a folder."""
    rlm = dspy_rlm.RLM(
        AskTranscripts,
        sub_lm=models.sub,
        max_llm_calls=120,
        validators=[moments_have_times],
        limits=dspy_rlm.Limits(search_seconds=300),
    )
    with dspy.context(lm=models.root):
        return rlm(transcripts=Directory(folder, pattern="*.txt"), question=question)


def main(arguments: list[str] | None = None) -> dspy.Prediction:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("-q", "--question", default="What do they say about `deadlock`?")
    parser.add_argument("--words", type=int, default=3_400_000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.folder is None:
            episodes = write_transcripts(folder, options.words)
            print(f"{episodes} recordings, {options.words:,} words of Python's own text")
        prediction = ask(folder, options.question, choose_models(root, sub))
    print(prediction.answer)
    for moment in prediction.moments:
        print(f"  {moment.path}, line {moment.line}: {moment.text[:100]}")
    print(f"{prediction.run.iterations} turns, {prediction.run.llm_calls} sub-calls")
    return prediction


if __name__ == "__main__":
    main()
