"""The rows of the benchmark: one `Row` for each workload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks import own_workloads, workloads
from benchmarks.contenders import Contender
from benchmarks.own_workloads import LINE, LINES, NEEDLE


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    """The name for `--only`."""

    title: str
    """The title in the table."""

    measure: Callable[[Contender], list[float]]
    """Returns the samples of one round."""

    unit: Literal["seconds", "bytes"] = "seconds"
    """The unit of a sample."""

    rounds: int = 3
    """The number of fresh processes for ours."""

    peer_rounds: int = 3
    """The number of fresh processes for the peer: fewer if one takes minutes."""

    cap_seconds: float = 120.0
    """The time limit of a round, after which the row is reported as failed."""

    slow: bool = False
    """True if `--quick` skips the row."""

    ours_alone: str = ""
    """The reason why the peer has nothing to measure; empty if it has."""


ROWS: Sequence[Row] = (
    Row(
        "cold_start",
        "open a sandbox, first cell",
        workloads.cold_start,
        rounds=7,
        peer_rounds=7,
    ),
    Row("warm_lend", "borrow a warm sandbox, first cell", workloads.warm_lend),
    Row("warm_cell", "trivial cell, warm", workloads.warm_cell),
    Row("tool_call", "host tool call, each", workloads.tool_call),
    Row(
        "pipe_trip",
        "for comparison: a byte to a process and back",
        own_workloads.pipe_trip,
        ours_alone="it measures neither side",
    ),
    Row("tool_batch", "host tool call, each of 1000", workloads.tool_batch),
    Row("tools_at_once", "20 host tool calls of 0.1 s", workloads.tools_at_once),
    Row("text_1mb", "ten cells over 1 MB of text", workloads.cells_over_text(1)),
    Row(
        "text_10mb",
        "ten cells over 10 MB of text",
        workloads.cells_over_text(10),
        cap_seconds=300,
    ),
    Row(
        "text_90mb",
        "ten cells over 90 MB of text",
        workloads.cells_over_text(90),
        peer_rounds=1,
        cap_seconds=900,
        slow=True,
    ),
    Row(
        "assign_100mb",
        "one cell over 100 MB of text",
        workloads.assign_100mb,
        peer_rounds=1,
        cap_seconds=300,
        slow=True,
    ),
    Row(
        "assign_1gb",
        "one cell over 1 GB of text",
        own_workloads.assign_1gb,
        cap_seconds=300,
        slow=True,
        ours_alone="its variables pass through one JavaScript string, whose maximum is half a gigabyte",
    ),
    *(
        Row(
            name,
            f"a file of 1 GB, {operation}",
            own_workloads.in_file(code, answer),
            rounds=2,
            cap_seconds=300,
            slow=True,
            ours_alone="it has no lazy texts, and cannot hold a gigabyte",
        )
        for name, operation, code, answer in (
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
    Row("dicts_100k", "100,000 small dicts", workloads.dicts, cap_seconds=600, slow=True),
    Row(
        "submit_pairs",
        "submit 4 million pairs",
        workloads.submit_pairs,
        peer_rounds=1,
        cap_seconds=300,
        slow=True,
    ),
    Row("print_20mb", "print 20 MB, default limits", workloads.print_abridged),
    Row("print_20mb_whole", "print 20 MB, all returned", workloads.print_whole),
    Row(
        "sixteen",
        "16 sandboxes at once, first cells",
        workloads.sixteen,
        peer_rounds=1,
        cap_seconds=300,
        slow=True,
    ),
    Row("idle_memory", "resident size, idle", workloads.idle_memory, unit="bytes"),
    Row(
        "sixteen_memory",
        "resident size, each of 16, idle",
        workloads.sixteen_memory,
        unit="bytes",
        rounds=1,
        peer_rounds=1,
        cap_seconds=300,
        slow=True,
    ),
    Row(
        "sixty_four_memory",
        "resident size, each of 64, idle",
        workloads.sixty_four_memory,
        unit="bytes",
        rounds=1,
        cap_seconds=300,
        slow=True,
        ours_alone="64 of its sandboxes take minutes to open",
    ),
    Row(
        "packages",
        "open a sandbox and import networkx",
        own_workloads.with_packages,
        ours_alone="it has no packages without a network",
    ),
    Row(
        "checkpoint",
        "save a session with 10 MB",
        own_workloads.checkpoint,
        ours_alone="it saves no state",
    ),
    Row(
        "restore",
        "open a saved session, first cell",
        own_workloads.restore,
        ours_alone="it saves no state",
    ),
    Row(
        "heal",
        "next cell after a killed process",
        own_workloads.heal,
        ours_alone="its state ends with its process",
    ),
)
