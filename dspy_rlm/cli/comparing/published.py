"""Published figures that a suite is shown beside, each with its source and date. They were measured on other data."""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = (
    "A. L. Zhang, T. Kraska, O. Khattab, Recursive Language Models, arXiv:2512.24601v2, Table 1"
)
ADDRESS = "https://arxiv.org/abs/2512.24601v2"
DATE = "28 January 2026"

# The columns of the table, with the lengths of the inputs in tokens.
COLUMNS = (
    ("CodeQA", "23K to 4.2M"),
    ("BrowseComp+ (1K)", "6M to 11M"),
    ("OOLONG", "131K"),
    ("OOLONG-Pairs", "32K"),
)


@dataclass(frozen=True)
class Published:
    """A row of the table: percent in each column, and the mean US dollars of an item; None: not applicable."""

    model: str
    method: str
    percent: tuple[float, float, float, float]
    dollars: tuple[float | None, float | None, float | None, float | None]


# Zeros of a method that did not fit its context window are in it: the base models on BrowseComp+, for example.
PAPER = (
    Published("GPT-5", "base model", (24.0, 0.0, 44.0, 0.1), (0.13, None, 0.14, 0.16)),
    Published("GPT-5", "CodeAct + BM25", (22.0, 51.0, 38.0, 24.7), (0.06, 0.71, 0.61, 0.75)),
    Published("GPT-5", "CodeAct + sub-calls", (24.0, 0.0, 40.0, 28.4), (0.06, None, 0.85, 1.11)),
    Published("GPT-5", "summary agent", (58.0, 70.5, 46.0, 0.1), (1.31, 0.57, 0.13, 0.13)),
    Published("GPT-5", "RLM", (62.0, 91.3, 56.5, 58.0), (0.11, 0.99, 0.43, 0.33)),
    Published("GPT-5", "RLM without sub-calls", (58.0, 88.0, 36.0, 43.9), (0.18, 0.44, 0.37, 0.69)),
    Published("Qwen3-Coder-480B", "base model", (20.0, 0.0, 36.0, 0.1), (0.13, None, 0.06, 0.05)),
    Published("Qwen3-Coder-480B", "CodeAct + BM25", (24.0, 12.7, 38.0, 0.3), (0.17, 0.39, 1.51, 1.54)),
    Published("Qwen3-Coder-480B", "CodeAct + sub-calls", (26.0, 0.0, 32.0, 0.1), (0.28, None, 1.83, 1.49)),
    Published("Qwen3-Coder-480B", "summary agent", (50.0, 38.0, 44.1, 0.31), (1.26, 8.98, 0.15, 0.05)),
    Published("Qwen3-Coder-480B", "RLM", (56.0, 44.7, 48.0, 23.1), (0.92, 0.84, 0.61, 1.02)),
    Published("Qwen3-Coder-480B", "RLM without sub-calls", (66.0, 46.0, 43.5, 17.3), (0.18, 0.82, 0.32, 1.77)),
    Published("Qwen3-8B", "base model", (4.0, 0.0, 0.0, 0.1), (0.01, None, None, 0.01)),
    Published("Qwen3-8B", "RLM", (26.0, 2.0, 24.0, 4.3), (0.04, 0.03, 0.19, 0.05)),
    Published("Qwen3-8B", "RLM, fine-tuned", (32.0, 14.0, 32.0, 5.2), (0.02, 0.01, 0.04, 0.02)),
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A task of a suite, and the column that it resembles."""

    task: str
    column: str
    """The column of the table; empty for none."""

    difference: str
    """The differences from the published task."""


SUITES = {
    "paper-mini": (
        Part("s-niah", "", "RULER's needle; the paper shows it as a figure, without numbers"),
        Part("code-qa", "CodeQA", "questions about the standard library, instead of LongBench-v2's repositories"),
        Part("browsecomp", "BrowseComp+ (1K)", "generated documents, and far fewer"),
        Part("oolong-counting", "OOLONG", "generated questions in place of TREC's"),
        Part("oolong-pairs", "OOLONG-Pairs", "the published predicates over generated questions"),
    )
}  # fmt: skip
