"""The settings of an RLM: one frozen value, read by its runs, sub-runs, copies and pickles.

`Configured` gives the module an attribute for each of them, under the names that programs written for
`dspy.RLM` read and set too. Setting one replaces the value, so that a run in progress keeps its own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, overload

import dspy
from dspy import CodeInterpreter

from dspy_rlm.budget.budget import Budget
from dspy_rlm.limiting.gate import Concurrency
from dspy_rlm.lms.sub_lms import Models, SubLM, named_models
from dspy_rlm.protocols.playback import Playback
from dspy_rlm.protocols.tool_servers import ToolServer
from dspy_rlm.reports.report import OnExhausted
from dspy_rlm.settings.history_options import Compaction, HistoryOptions, Observations
from dspy_rlm.values.conversion import TypeRules
from sandbox_runtime import Limits, PackageSet, Pool, default_pool
from sandbox_runtime.helpers import abridged, annotation_text

T = TypeVar("T")

# Characters of a cell's output that a run keeps, for code and for the journal. What a program prints beyond that is a mistake.
WHOLE_OUTPUT_CHARS = 1_000_000

# DSPy prints the repr of a module with each of its failures, and a notebook shows it.
MAX_REPR_CHARS = 300


@dataclasses.dataclass(frozen=True)
class RLMConfig:
    """The settings of an RLM, checked. What an optimizer changes is in the predictor instead."""

    signature: type[dspy.Signature]

    tools: Mapping[str, dspy.Tool]
    """The user's tools by name. Those of servers are among them during a run only."""

    budget: Budget
    """The limits of one run with its sub-runs."""

    limits: Limits
    """The resources of each of its sandboxes."""

    sub_lm: SubLM = None
    """The LMs that code can call. None: the LM that writes the code."""

    types: TypeRules = ()
    """Rules for how values of certain types cross to the sandbox."""

    packages: PackageSet | None = None
    """The packages that cells can import besides the standard library."""

    pool: Pool | None = None
    """The pool that lends the sandboxes. None: the one that all RLMs of the process share."""

    interpreter_factory: Callable[[], CodeInterpreter] | None = None
    """Creates the interpreter that cells run in. None: our sandbox."""

    max_concurrency: Concurrency = None
    """The calls of an LM at once, for all or by sub-LM. None: the default."""

    verbose: bool = False
    """True to print each step to stderr."""

    live: Any = None
    """True to show runs while they go on, "plain" as lines, or a display; None: as the process has it. See `live.choosing`."""

    watchers: tuple[Callable[[int], Callable[[Any], None]], ...] = ()
    """Functions that return an observer of the events of one run, by its depth; see `events.Sink`."""

    journal: str | bool | None = None
    """The place where runs are recorded: see `journal.places`."""

    checkpoints: str = "auto"
    """The times at which a recorded run saves the state of its REPL: see `journal.checkpoints`."""

    style: str = "default"
    """The name of the prompt's style, as `prompts.styles` has it."""

    playback: Playback | None = None
    """The record of the run before, for the one run that repeats it."""

    memo: str | None = None
    """The file that keeps answers of sub-LMs from run to run; None: none are kept."""

    view: HistoryOptions = dataclasses.field(default_factory=HistoryOptions)
    """The view that the root LM has of its earlier steps."""

    on_exhausted: OnExhausted = "extract"
    """The end of a run once no turn is left."""

    stop_seconds: float = 10.0
    """Seconds from the first Ctrl-C or SIGTERM to the end of the run; 0: it ends at once."""
    validators: tuple[Callable[..., Any], ...] = ()
    """Functions that check the outputs: see `evidence.validators`."""

    track_coverage: bool = False
    """True to track which parts of the inputs LMs are shown."""

    servers: tuple[ToolServer, ...] = ()
    """The servers whose tools a run has beside `tools`."""

    require_coverage: float | Mapping[str, float] | None = None
    """The fraction of each input, or of some by name, that LMs must have been shown before a SUBMIT."""

    @property
    def models(self) -> Models | None:
        """The LMs that code can call; None if `sub_lm` names none."""
        return named_models(self.sub_lm)

    @property
    def lending_pool(self) -> Pool:
        """The pool that lends the sandboxes."""
        return self.pool or default_pool()

    @property
    def annotations(self) -> list[Any]:
        """The types of the inputs, the outputs, and the tools' arguments."""
        fields = (*self.signature.input_fields.values(), *self.signature.output_fields.values())
        arguments = [t for tool in self.tools.values() for t in (tool.arg_types or {}).values()]
        return [*(field.annotation for field in fields), *arguments]

    @property
    def sandbox_limits(self) -> Limits:
        """The limits of the sandbox: it keeps more of an output than the root LM sees.

        With `max_seconds`, tools run in threads that a run can abandon.
        """
        limits = dataclasses.replace(
            self.limits, output_chars=max(self.limits.output_chars, WHOLE_OUTPUT_CHARS)
        )
        if self.budget.max_seconds is None:
            return limits
        seconds = min(limits.call_seconds or math.inf, self.budget.max_seconds)
        return dataclasses.replace(limits, call_seconds=seconds)


class Setting(Generic[T]):
    """An attribute that reads and replaces one field of the module's config.

    Args:
        part: The field of the config that is itself a dataclass with a field of the attribute's name.
        name: The name of the field, where the attribute has another.
    """

    def __init__(self, part: str = "", name: str = "") -> None:
        self._part = part
        self._name = name

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = self._name or name

    @overload
    def __get__(self, module: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, module: Configured, owner: type) -> T: ...
    def __get__(self, module: Configured | None, owner: type) -> Any:
        if module is None:
            return self
        config = module._config
        return getattr(getattr(config, self._part) if self._part else config, self._name)

    def __set__(self, module: Configured, value: T) -> None:
        changes: dict[str, Any] = {self._name: value}
        if self._part:
            part = getattr(module._config, self._part)
            changes = {self._part: dataclasses.replace(part, **changes)}
        module._config = dataclasses.replace(module._config, **changes)


class Configured:
    """The settings of an RLM as attributes, which can be set between runs."""

    _config: RLMConfig

    signature = Setting[type[dspy.Signature]]()
    budget = Setting[Budget]()
    limits = Setting[Limits]()
    sub_lm = Setting[SubLM]()
    packages = Setting["PackageSet | None"]()
    verbose = Setting[bool]()
    live = Setting[Any]()
    style = Setting[str]()
    memo = Setting["str | None"]()
    history_tokens = Setting["int | None"]("view")
    compaction = Setting[Compaction]("view")
    observations = Setting[Observations]("view")
    validators = Setting[tuple[Callable[..., Any], ...]]()
    track_coverage = Setting[bool]()
    require_coverage = Setting["float | Mapping[str, float] | None"]()
    journal = Setting["str | bool | None"]()
    checkpoints = Setting[str]()
    max_concurrency = Setting[Concurrency]()
    on_exhausted = Setting[OnExhausted]()
    stop_seconds = Setting[float]()

    # Turns of the root LM.
    max_iterations = Setting[int]("budget")
    max_iters = Setting[int]("budget", "max_iterations")

    # Calls of LMs that the code of one run may cause.
    max_llm_calls = Setting[int]("budget")

    # Characters of a cell's output that the root LM sees.
    max_output_chars = Setting[int]("limits", "output_chars")

    @property
    def tools(self) -> dict[str, dspy.Tool]:
        """The user's tools by name."""
        return dict(self._config.tools)

    def __repr__(self) -> str:
        """Returns the fields only: DSPy's own repr has the whole prompt."""
        fields = " -> ".join(
            ", ".join(
                f"{name}: {annotation_text(field.annotation)}" for name, field in side.items()
            )
            for side in (self.signature.input_fields, self.signature.output_fields)
        )
        return f"{type(self).__name__}({abridged(fields, MAX_REPR_CHARS)!r})"
