"""The viewer: size of a page, and the time to write and to open it, for journals of several sizes.

python -m benchmarks.viewer
python -m benchmarks.viewer --megabytes 50 --keep FOLDER

Opening needs Playwright and a Chromium; without them, only the writing is measured.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.browser import open_page
from benchmarks.journal import SYSTEM, record_call, recorder_in
from dspy_rlm.cli.recorded.view import Journals
from dspy_rlm.events import ActionChosen, IterationStarted, RunStarted, StepTaken
from dspy_rlm.journal.recorder import parent_call
from dspy_rlm.journal.values import folder_of
from dspy_rlm.reports.report import Step
from dspy_rlm.viewer.bundle import bundle
from dspy_rlm.viewer.page import page

# A step of a long run: a cell that prints 40 KB, of which the root LM sees a quarter, and twenty sub-calls with prompts of
# 1.1 KB. A prompt has the latest steps: the context window of an LM is bounded.
PRINTED_WORDS, PROMPT_WORDS = 6_500, 170
SEEN_CHARS = 10_000
CALLS_OF_STEP = 20
STEPS_IN_PROMPT = 4
BYTES_OF_STEP = 125_000


def record(folder: Path, megabytes: float) -> tuple[Path, int]:
    """Records a run whose journal, with the texts beside it, is about so large; returns it, and the number of its steps."""
    folder.mkdir()
    steps = max(round(megabytes * 1_000_000 / BYTES_OF_STEP), 1)
    recorder = recorder_in(folder)
    recorder.take(RunStarted([], steps))
    history: list[str] = []
    chance = random.Random(7)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(3_000)]

    def text(count: int) -> str:
        return textwrap.fill(" ".join(chance.choices(words, k=count)), 90)

    for number in range(1, steps + 1):
        recorder.take(IterationStarted(number, steps))
        recent = "".join(history[-STEPS_IN_PROMPT:])
        prompt = [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": f"{recent}Turn {number} of {steps}"},
        ]
        code = f"answers = sub_llm_batched(pages[{number}:])\nprint(answers)"
        record_call(recorder, "action", prompt, f"I read page {number}.\n```python\n{code}\n```")
        recorder.take(ActionChosen(number, f"I read page {number}.", code))
        token = parent_call.set(f"bench:t{number}")
        for call in range(CALLS_OF_STEP):
            page = [{"role": "user", "content": f"Page {number}.{call}: {text(PROMPT_WORDS)}"}]
            record_call(
                recorder,
                "sub_llm_batched",
                page,
                f"Nothing of interest is on page {number}.{call}.",
            )
        parent_call.reset(token)
        printed = text(PRINTED_WORDS)
        cell = {"code": code, "outcome": "completed", "output": recorder.packer.text(printed)}
        recorder.emit("cell", lambda cell=cell: cell)  # type: ignore[misc]
        recorder.take(StepTaken(number, Step("", code, printed[:SEEN_CHARS]), 0))
        history.append(f"=== Step {number} ===\n{code}\n{printed[:SEEN_CHARS]}")
    assert recorder.journal.path is not None
    return recorder.journal.path, steps


def size_of(journal: Path) -> int:
    """Returns the bytes of a journal, with the texts beside it."""
    beside = folder_of(journal)
    values = sum(path.stat().st_size for path in beside.iterdir()) if beside.exists() else 0
    return journal.stat().st_size + values


def write(journal: Path, path: Path) -> float:
    """Writes the page of a journal; returns the seconds."""
    built = bundle()
    began = time.perf_counter()
    source = Journals([journal])
    path.write_text(page(source.document(), source.texts, built), "utf-8")
    return time.perf_counter() - began


def report(folder: Path, sizes: Sequence[float]) -> None:
    """Prints a row for each size."""
    print("journal    steps    calls     page    to write   to open   scrolled   (seconds)")
    for megabytes in sizes:
        journal, steps = record(folder / f"{megabytes:g}", megabytes)
        path = folder / f"{megabytes:g}.html"
        seconds = write(journal, path)
        facts: dict[str, Any] = open_page(path) or {}
        opened = f"{facts['opened']:8.2f}" if facts else "       -"
        scrolled = f"{facts['scrolled']:8.2f}" if facts else "       -"
        print(
            f"{size_of(journal) / 1e6:5.1f} MB {steps:8,} {steps * (CALLS_OF_STEP + 1):8,} {path.stat().st_size / 1e6:5.1f} MB "
            f"  {seconds:8.2f}  {opened}   {scrolled}"
        )


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[1, 10, 50])
    parser.add_argument("--keep", type=Path, help="a folder for the journals and the pages")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True)
        report(options.keep, options.megabytes)
        return
    with tempfile.TemporaryDirectory() as folder:
        report(Path(folder), options.megabytes)


if __name__ == "__main__":
    main()
