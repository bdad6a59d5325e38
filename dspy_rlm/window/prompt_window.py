"""The parts of a prompt that grow with a run, kept within the LM's context window and the user's budget.

Steps are shown whole until the next prompt would pass the budget. Then older ones are compacted, down to a low-water
mark, so that it happens rarely: in between, each prompt begins with the one before it, and a provider's cache holds.
A provider's refusal of a prompt that is too long lowers the budget and compacts in the same way.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from dspy_rlm.prompts.history import NO_STEPS, abridge_history
from dspy_rlm.reports.report import Step
from dspy_rlm.window.folding import (
    CUT,
    FOLDED,
    LEFT_OUT,
    TIGHT,
    WHOLE,
    Block,
    cut,
    folded,
    left_out,
    tight,
    whole,
)
from dspy_rlm.window.token_estimate import TokenEstimate, weight_of
from sandbox_runtime.helpers import abridged

# Compaction ends at this part of the room for steps. A lower mark loses more of what the LM has seen; a higher one
# compacts, and so loses the provider's cache, more often.
LOW_WATER = 0.4

# The part of the room below that mark that the newest steps may fill whole.
NEWEST_PART = 0.5

# Steps are left out, or summarized, until this part of the mark is reached: it changes the beginning of the history,
# so it is to be rare.
LEFT_OUT_TO = 0.6

# The part of the mark that a summary may take, the least weight of the mark with which one is asked for, the failed
# requests in a row after which rules alone are used, and the characters that it reads of each step.
SUMMARY_PART = 0.15
LEAST_SUMMARIZED = 500
MAX_UNSUMMARIZED = 2
READ = (1_500, 3_000)

# The part of the window that is left free, because tokens are estimated.
MARGIN = 0.03

# The bounds of a new budget after a refusal, as parts of the prompt that was refused.
LEAST_KEPT, MOST_KEPT = 0.6, 0.95

# The description of the variables is not cut below this.
LEAST_VARIABLES_CHARS = 600

# Characters of each output that the extraction sees if the whole does not fit into the budget. They are tried in order.
SHORTENED_OUTPUT_CHARS = (2_000, 400, 80)


_SHORT_VARIABLES = "The variables are described in short to fit into your context window; they still hold everything"


@dataclasses.dataclass(frozen=True)
class Room:
    """The room for the prompts of a run."""

    history_tokens: float = math.inf
    """Tokens of the steps."""

    prompt_tokens: float = math.inf
    """Tokens of a whole prompt: the context window without the room for a reply."""

    static_chars: int = 0
    """The characters of a prompt that stay the same, as far as they are known before the first."""

    by_summary: bool = False
    """True if an LM summarizes the steps that rules would fold."""


@dataclasses.dataclass(frozen=True)
class Compacted:
    """The effect of one compaction."""

    steps: int
    """The steps that are no longer shown whole."""

    tokens_before: int
    """Tokens of the prompt, estimated."""

    tokens_after: int


class PromptWindow:
    """The parts of a prompt that grow with a run."""

    def __init__(
        self,
        variables_info: str,
        room: Room | None = None,
        on_compaction: Callable[[Compacted], None] = lambda _: None,
        name_history: Callable[[], str] = lambda: "",
    ) -> None:
        """Shows everything at first.

        Args:
            variables_info: The description of the variables.
            room: The room for prompts; None if it is unknown.
            on_compaction: Called after steps were shortened.
            name_history: Returns the name of the REPL's variable with all steps, empty if there is none. Called
                before the first compaction.
        """
        self.variables_info = variables_info
        self.overflows = 0
        """Requests that were refused because the prompt was longer than the window."""

        self.compactions = 0
        """Times that steps were shortened."""

        self.name = ""
        """The variable of the REPL with all steps; empty if there is none."""

        self._room = room or Room()
        self._prompt_tokens = self._room.prompt_tokens * (1 - MARGIN)
        self._on_compaction = on_compaction
        self._name_history = name_history
        self._unsummarized = 0  # failed summaries in a row
        self._estimate = TokenEstimate(self._room.static_chars)
        self._blocks: list[Block] = []
        self._texts: dict[str, float] = {}  # weights of the variables and the line of the turn
        self._sent = 0, 0.0  # characters and weight of the changing part of the last prompt
        self._accepted = 0  # tokens of the longest prompt that the LM has answered
        self._shortened = 0  # times that the outputs were shortened for the budget

    # ---- Prompts ----

    def fit(self, steps: Sequence[Step], line: str = "") -> None:
        """Compacts the steps if the next prompt would pass the budget.

        Args:
            steps: All steps of the run.
            line: The line of the turn, which the prompt has besides the steps and the variables.
        """
        self._add(steps)
        if self._is_over(line):
            self._compact(steps, line)
            if self._room.prompt_tokens < math.inf:
                while self._is_over(line) and self._shorten_variables():
                    pass
        chars = len(self._text()) + len(self.variables_info) + len(line)
        self._sent = chars, self._weight(line)

    def wanted_summary(self, steps: Sequence[Step], line: str = "") -> int:
        """Returns the number of the last step that an LM should summarize now, with all before it; 0 if none."""
        self._add(steps)
        if not self._room.by_summary or not self._blocks or not self._is_over(line):
            return 0
        target = self._target(line)
        if target < LEAST_SUMMARIZED or self._unsummarized >= MAX_UNSUMMARIZED:
            return 0
        blocks = list(self._blocks)
        self._cut_outputs(blocks, steps, target)
        surplus = sum(block.weight for block in blocks) - target
        if surplus <= 0:
            return 0
        surplus += target * (1 - LEFT_OUT_TO + SUMMARY_PART)
        last = 0
        for block in blocks[: len(blocks) - self._newest(blocks, target)]:
            if surplus <= 0:
                break
            surplus -= block.weight
            last = block.last
        # One step alone, or what is summarized already, is not worth a call.
        return (
            last if last > max(1, self._blocks[0].last if self._blocks[0].is_summary else 1) else 0
        )

    def summarized_text(self, steps: Sequence[Step], last: int) -> str:
        """Returns the steps up to a number as the LM that summarizes them reads them."""
        texts = [
            block.text
            if block.level == LEFT_OUT
            else tight(steps[block.first - 1], block.first, *READ).text
            for block in self._blocks
            if block.last <= last
        ]
        return "\n".join(texts)

    def take_summary(self, steps: Sequence[Step], last: int, summary: str, line: str = "") -> None:
        """Replaces the steps up to a number by a summary of them; an empty one is none."""
        if not summary.strip():
            self._unsummarized += 1
            return
        self._unsummarized = 0
        self._choose_name()
        before = self._tokens(line)
        rest = [block for block in self._blocks if block.last > last]
        self._blocks = [left_out(steps[:last], 1, self.name, summary), *rest]
        self._shorten_steps(steps, line)
        self._note_compaction(before, line)

    def history(self) -> str:
        """Returns the steps as the prompt shows them, after `fit`."""
        text = self._text()
        if self._shortened:
            return abridge_history(text, SHORTENED_OUTPUT_CHARS[self._shortened - 1])
        return text

    def counted(self, chars: int, tokens: int | None) -> None:
        """Learns from a prompt that the LM has answered: its characters, and its tokens if they are reported."""
        self._accepted = max(self._accepted, tokens or self._estimate.whole(self._sent[1]))
        if tokens is not None:
            self._estimate.counted(chars, *self._sent, tokens)

    @property
    def note(self) -> str:
        """The sentence that tells the LM about it; empty while everything is shown."""
        if not self.compactions:
            return _SHORT_VARIABLES if self.overflows else ""
        place = (
            f"the variable `{self.name}` has each in full: a list of dicts with step, reasoning, code, output"
            if self.name
            else "the variables still hold everything"
        )
        return f"Older steps are shown shortened to fit into your context window; {place}"

    # ---- When the LM or the budget has refused a prompt ----

    def shorten(self) -> bool:
        """Shortens each output, because the extraction does not fit into the budget; returns False if none can be."""
        if self._shortened == len(SHORTENED_OUTPUT_CHARS):
            return False
        self._shortened += 1
        return True

    def overflow(self, steps: Sequence[Step]) -> bool:
        """Shortens the prompt that was refused; returns False if nothing is left to shorten."""
        self.overflows += 1
        self._add(steps)
        refused = self._estimate.whole(self._sent[1])
        self._prompt_tokens = min(
            refused * MOST_KEPT, max(self._accepted, refused * LEAST_KEPT), self._prompt_tokens
        )
        length = len(self._text())
        self._compact(steps, "")
        return len(self._text()) < length or self._shorten_variables()

    def _shorten_variables(self) -> bool:
        length = len(self.variables_info)
        if length <= LEAST_VARIABLES_CHARS:
            return False
        most = max(int(length * LEAST_KEPT), LEAST_VARIABLES_CHARS)
        self.variables_info = abridged(self.variables_info, most)
        return len(self.variables_info) < length

    # ---- Sizes ----

    def _add(self, steps: Sequence[Step]) -> None:
        shown = self._blocks[-1].last if self._blocks else 0
        self._blocks += [whole(step, n) for n, step in enumerate(steps[shown:], shown + 1)]

    def _text(self) -> str:
        return "\n".join(block.text for block in self._blocks) or NO_STEPS

    def _of_steps(self) -> float:
        return sum(block.weight for block in self._blocks)

    def _others(self, line: str) -> float:
        """Returns the weight of what changes besides the steps."""
        if self.variables_info not in self._texts:
            self._texts = {self.variables_info: weight_of(self.variables_info)}
        return self._texts[self.variables_info] + weight_of(line)

    def _weight(self, line: str) -> float:
        return self._of_steps() + self._others(line)

    def _tokens(self, line: str) -> int:
        return self._estimate.whole(self._weight(line))

    def _is_over(self, line: str) -> bool:
        if self._estimate.part(self._of_steps()) > self._room.history_tokens:
            return True
        return self._prompt_tokens < math.inf and self._tokens(line) > self._prompt_tokens

    def _target(self, line: str, part: float = LOW_WATER) -> float:
        """Returns the weight that the steps may have after a compaction."""
        room = math.inf
        if self._room.history_tokens < math.inf:
            room = self._estimate.weight_of_part(self._room.history_tokens)
        if self._prompt_tokens < math.inf:
            rest = self._estimate.weight_for(self._prompt_tokens) - self._others(line)
            room = min(room, max(rest, 0))
        return room * part

    # ---- Compaction ----

    def _compact(self, steps: Sequence[Step], line: str) -> None:
        self._choose_name()
        before = self._tokens(line)
        if self._shorten_steps(steps, line):
            self._note_compaction(before, line)

    def _choose_name(self) -> None:
        if not self.compactions:
            self.name = self._name_history()

    def _shorten_steps(self, steps: Sequence[Step], line: str) -> bool:
        """Shortens older steps until the target is reached or nothing is left to shorten; returns whether any was."""
        target, blocks = self._target(line), list(self._blocks)
        self._cut_outputs(blocks, steps, target)
        self._fold(blocks, steps, target)
        self._leave_out(blocks, steps, target)
        self._tighten(blocks, steps, self._target(line, 1.0))
        is_shorter = [one.text for one in blocks] != [one.text for one in self._blocks]
        self._blocks = blocks
        return is_shorter

    def _note_compaction(self, before: int, line: str) -> None:
        self.compactions += 1
        shown = sum(block.level == WHOLE for block in self._blocks)
        steps = (self._blocks[-1].last if self._blocks else 0) - shown
        self._on_compaction(Compacted(steps, before, self._tokens(line)))

    def _newest(self, blocks: Sequence[Block], target: float) -> int:
        """Returns the number of the newest blocks that stay whole: one at least."""
        room, count = target * NEWEST_PART, 0
        for block in reversed(blocks):
            room -= block.weight
            if block.level != WHOLE or (count and room < 0):
                break
            count += 1
        return max(count, 1)

    def _cut_outputs(self, blocks: list[Block], steps: Sequence[Step], target: float) -> None:
        total = sum(block.weight for block in blocks)
        for at in range(len(blocks) - self._newest(blocks, target)):
            if total <= target:
                return
            if blocks[at].level < CUT:
                total += self._replace(
                    blocks, at, cut(steps[blocks[at].first - 1], blocks[at].first)
                )

    def _fold(self, blocks: list[Block], steps: Sequence[Step], target: float) -> None:
        total = sum(block.weight for block in blocks)
        for at in range(len(blocks) - self._newest(blocks, target)):
            if total <= target:
                return
            if blocks[at].level < FOLDED:
                stub = folded(steps[blocks[at].first - 1], blocks[at].first, self.name)
                total += self._replace(blocks, at, stub)

    def _leave_out(self, blocks: list[Block], steps: Sequence[Step], target: float) -> None:
        """Puts one stub in place of the oldest ones, of more than are needed: so it is rare. A summary stays."""
        total = sum(block.weight for block in blocks)
        if total <= target:
            return
        start = int(blocks[0].is_summary)
        end = start
        for block in blocks[start : len(blocks) - self._newest(blocks, target)]:
            if total <= target * LEFT_OUT_TO:
                break
            total -= block.weight
            end += 1
        if end - start > 1:
            first, last = blocks[start].first, blocks[end - 1].last
            blocks[start:end] = [left_out(steps[first - 1 : last], first, self.name)]

    def _tighten(self, blocks: list[Block], steps: Sequence[Step], limit: float) -> None:
        """Cuts the newest steps too, where they alone are over the whole room."""
        for output_chars, action_chars in TIGHT:
            for at, block in enumerate(blocks):
                if sum(one.weight for one in blocks) <= limit:
                    return
                if block.level < FOLDED:
                    number = block.first
                    self._replace(
                        blocks, at, tight(steps[number - 1], number, output_chars, action_chars)
                    )

    @staticmethod
    def _replace(blocks: list[Block], at: int, new: Block) -> float:
        """Replaces a block by a shorter one; returns the change of the weight. A longer one is not taken."""
        old = blocks[at]
        if len(new.text) >= len(old.text):
            if new.level > old.level:
                blocks[at] = dataclasses.replace(old, level=new.level)
            return 0.0
        blocks[at] = new
        return new.weight - old.weight
