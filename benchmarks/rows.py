"""What is measured: one `Row` per question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks import own_questions, questions
from benchmarks.contenders import Contender
from benchmarks.own_questions import LINE, LINES, NEEDLE


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    """What `--only` takes."""

    title: str
    """What the table says."""

    measure: Callable[[Contender], list[float]]
    """The samples of one round."""

    unit: Literal["seconds", "bytes"] = "seconds"
    """What a sample counts."""

    rounds: int = 3
    """Fresh processes for ours."""

    peer_rounds: int = 3
    """Fresh processes for the peer: fewer where one takes minutes."""

    cap_seconds: float = 120.0
    """After this a round is ended and the row says so."""

    slow: bool = False
    """Left out by `--quick`."""

    ours_alone: str = ""
    """Why there is nothing of the peer's to measure."""


ROWS: Sequence[Row] = (
    Row(
        "cold_start",
        "open a sandbox, first cell",
        questions.cold_start,
        rounds=7,
        peer_rounds=7,
    ),
    Row("warm_lend", "borrow a warm sandbox, first cell", questions.warm_lend),
    Row("warm_cell", "trivial cell, warm", questions.warm_cell),
    Row("tool_call", "host tool call, each", questions.tool_call),
    Row(
        "pipe_trip",
        "for comparison: a byte to a process and back",
        own_questions.pipe_trip,
        ours_alone="it is neither side's",
    ),
    Row("tool_batch", "host tool call, each of 1000", questions.tool_batch),
    Row("tools_at_once", "20 host tool calls of 0.1 s", questions.tools_at_once),
    Row("text_1mb", "ten cells over 1 MB of text", questions.cells_over_text(1)),
    Row(
        "text_10mb",
        "ten cells over 10 MB of text",
        questions.cells_over_text(10),
        cap_seconds=300,
    ),
    Row(
        "text_90mb",
        "ten cells over 90 MB of text",
        questions.cells_over_text(90),
        peer_rounds=1,
        cap_seconds=900,
        slow=True,
    ),
    Row(
        "assign_100mb",
        "one cell over 100 MB of text",
        questions.assign_100mb,
        peer_rounds=1,
        cap_seconds=300,
        slow=True,
    ),
    Row(
        "assign_1gb",
        "one cell over 1 GB of text",
        own_questions.assign_1gb,
        cap_seconds=300,
        slow=True,
        ours_alone="its variables pass through one JavaScript string, which holds half a gigabyte",
    ),
    *(
        Row(
            name,
            f"a file of 1 GB, {said}",
            own_questions.in_file(code, answer),
            rounds=2,
            cap_seconds=300,
            slow=True,
            ours_alone="it has no lazy texts, and holds no gigabyte",
        )
        for name, said, code, answer in (
            ("file_len", "first len()", "len(text)", f"{LINES * len(LINE) + len(NEEDLE)}"),
            ("file_find", "find()", "text.find('Needle')", f"{LINES * len(LINE) + 12}"),
            ("file_count", "count()", "text.count('fox')", f"{LINES}"),
            ("file_grep", "grep()", "len(text.grep(r'the N\\w+'))", "1"),
            (
                "file_grep_any_case",
                "grep(ignore_case=True)",
                "len(text.grep('needle', ignore_case=True))",
                "1",
            ),
        )
    ),
    Row("dicts_100k", "100,000 small dicts", questions.dicts, cap_seconds=600, slow=True),
    Row(
        "submit_pairs",
        "submit 4 million pairs",
        questions.submit_pairs,
        peer_rounds=1,
        cap_seconds=300,
        slow=True,
    ),
    Row("print_20mb", "print 20 MB, default limits", questions.print_abridged),
    Row("print_20mb_whole", "print 20 MB, all returned", questions.print_whole),
    Row(
        "sixteen",
        "16 sandboxes at once, first cells",
        questions.sixteen,
        peer_rounds=1,
        cap_seconds=300,
        slow=True,
    ),
    Row("idle_memory", "resident size, idle", questions.idle_memory, unit="bytes"),
    Row(
        "sixteen_memory",
        "resident size, each of 16, idle",
        questions.sixteen_memory,
        unit="bytes",
        rounds=1,
        peer_rounds=1,
        cap_seconds=300,
        slow=True,
    ),
    Row(
        "packages",
        "open a sandbox and import networkx",
        own_questions.with_packages,
        ours_alone="it has no packages without a network",
    ),
    Row(
        "checkpoint",
        "save a session with 10 MB",
        own_questions.checkpoint,
        ours_alone="it saves no state",
    ),
    Row(
        "restore",
        "open a saved session, first cell",
        own_questions.restore,
        ours_alone="it saves no state",
    ),
    Row(
        "heal",
        "next cell after a killed process",
        own_questions.heal,
        ours_alone="its state ends with its process",
    ),
)
