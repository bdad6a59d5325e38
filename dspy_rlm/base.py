"""The base of `RLM`: its constructor, its settings, its predictors, copies and saved states. Everything but the runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from os import PathLike
from typing import Self

import dspy
from dspy import CodeInterpreter

from dspy_rlm.budget.budget import Budget
from dspy_rlm.dspy_bridge.interpreter_factory import (
    InterpreterFactory,
    checked_factory,
    factory_of,
)
from dspy_rlm.dspy_bridge.pickling import Portable, module_state
from dspy_rlm.evidence.options import RequiredCoverage, checked_answers, with_known_types
from dspy_rlm.evidence.validators import Validator
from dspy_rlm.journal.checkpoints import CheckpointPolicy, checked_policy
from dspy_rlm.journal.places import JournalOption, checked_journal
from dspy_rlm.limiting.gate import check_concurrency
from dspy_rlm.live.choosing import LiveOption, checked_live
from dspy_rlm.lms.sub_lms import SubLM, checked_sub_lm
from dspy_rlm.mcp_tools.resolving import close_all, split_servers
from dspy_rlm.predictor import ActionPredictor
from dspy_rlm.prompts.styles import checked_style
from dspy_rlm.reports.report import OnExhausted
from dspy_rlm.run_context import RunContext
from dspy_rlm.runs.prompt import composed_signature, default_extractor, default_signature
from dspy_rlm.settings.arguments import (
    MAX_ITERATIONS,
    MemoOption,
    checked_ending,
    checked_limits,
    checked_memo,
    checked_pool,
    checked_rules,
    checked_turns,
    hinting_at_names,
)
from dspy_rlm.settings.config import Configured, RLMConfig
from dspy_rlm.settings.history_options import Compaction, HistoryOptions, Observations
from dspy_rlm.signatures.inputs import check_signature, warn_of_hiding_names
from dspy_rlm.tools.sources import ToolSource, normalize_tools
from dspy_rlm.values.conversion import type_rules
from sandbox_runtime import Limits, PackageSet, Pool, Rule
from sandbox_runtime.helpers import ready_packages


class RLMBase(Configured, Portable, dspy.Module):
    """The settings and the predictors of an RLM."""

    @hinting_at_names
    def __init__(
        self,
        signature: str | type[dspy.Signature],
        max_iterations: int = MAX_ITERATIONS,
        max_llm_calls: int = 50,
        max_output_chars: int = 10_000,
        verbose: bool = False,
        tools: Collection[ToolSource] | Mapping[str, ToolSource] | None = None,
        sub_lm: SubLM = None,
        interpreter_factory: InterpreterFactory | CodeInterpreter | None = None,
        *,
        max_depth: int = 1,
        max_cost: float | None = None,
        max_tokens: int | None = None,
        max_seconds: float | None = None,
        max_errors: int | None = None,
        max_concurrency: int | Mapping[str, int] | None = None,
        prices: Mapping[str, tuple[float, float]] | None = None,
        limits: Limits | None = None,
        packages: Collection[str] | PathLike[str] | PackageSet | None = None,
        types: Sequence[Rule] = (),
        pool: Pool | None = None,
        style: str = "default",
        history_tokens: int | None = None,
        compaction: Compaction = "rules",
        observations: Observations = "output",
        journal: JournalOption = None,
        checkpoints: CheckpointPolicy = "auto",
        on_exhausted: OnExhausted = "extract",
        stop_seconds: float = 10,
        validators: Sequence[Validator] = (),
        track_coverage: bool = False,
        require_coverage: RequiredCoverage = None,
        memo: MemoOption = None,
        live: LiveOption = None,
        max_iters: int | None = None,
        interpreter: CodeInterpreter | None = None,
    ) -> None:
        """Configures the module. A run starts when it is called.

        Args:
            signature: Inputs and outputs, as text or as a class.
            max_iterations: Turns of the root LM. After the last one, the outputs are extracted.
            max_llm_calls: LM calls that the code of one run may cause, including those of sub-runs.
            max_output_chars: Characters of a cell's output that the root LM sees.
            verbose: Print each step to stderr.
            tools: Python functions, `dspy.Tool`s and `MCP` servers that the code can call.
            sub_lm: The LM that code can call; or several by name, each an LM or a pair of an LM and a
                one-line description. The first is the default. None: the LM of this module, else the
                configured one.
            interpreter_factory: Returns a DSPy `CodeInterpreter` to run cells in, instead of our sandbox.
            max_depth: Levels of sub-runs below this one; 0 allows none.
            max_cost: US dollars for all LMs of a run together. None means no limit, as for the next three.
            max_tokens: Tokens of all LMs of a run together.
            max_seconds: Wall time of a run that has its sandbox. Cells and calls are cancelled.
            max_errors: Failed turns in a row that end the run. None: 5 failures of the same code do.
            max_concurrency: LM calls of the code at once (16), for each LM or by name of a sub-LM. Fewer are sent while
                a server refuses some of them.
            prices: US dollars per million tokens of prompts and of replies, by model: for `max_cost` with
                models whose price DSPy does not know, such as `{"openai/mine": (0.15, 0.6)}`.
            limits: The resources of the sandbox; `max_output_chars` replaces its `output_chars`.
            packages: Packages that code can import besides the standard library, such as `["networkx"]`;
                or the path of a lock file with hashes. Downloaded the first time, then cached.
            types: Rules for how values of your own types cross to the sandbox: `HandleType`, `ValueType`
                or `CodeType`. They precede the rules for DSPy's types.
            pool: The pool that lends the sandboxes; its limits and packages apply where none are passed
                here. None: the pool that all RLMs of the process share.
            style: The form of the prompt: "default", "paper" or "tools"; see docs/prompt.md.
            history_tokens: Tokens of the steps in one prompt; older ones are shortened. None: what the context
                window of the LM holds, if DSPy knows it. docs/context.md describes this and the next two.
            compaction: How old steps are shortened: by "rules", or with a "summary" by the LM that writes the code.
            observations: What the LM sees of a cell: its "output", or only the size of it, "opaque".
            journal: Where runs are recorded: a `.jsonl` file, a folder, or True for the user's data folder.
            checkpoints: When a recorded run saves its REPL: "auto", "every" (cell) or "never".
            on_exhausted: "extract" the outputs when no turn is left, return "partial" ones, or "raise".
            stop_seconds: Time from the first Ctrl-C or SIGTERM, which asks for what there is, to the end of the run;
                0 ends it at once.
            validators: Functions of outputs and inputs that accept the outputs, or object with a reason.
            track_coverage: Whether `run.coverage` has the parts of the inputs that LMs were shown.
            require_coverage: The fraction that LMs must have been shown of each input, or of some by name, before a
                SUBMIT is accepted.
            memo: A file that keeps answers of sub-LMs from run to run, or True for one in the user's data folder;
                see docs/reuse.md.
            live: Show each run while it goes on: a tree on the terminal or in the notebook, lines elsewhere; "plain":
                lines everywhere; or a display of your own. docs/live.md describes it.
            max_iters: Another name for `max_iterations`.
            interpreter: A `CodeInterpreter` instance to run in, as older code passes it. No run shuts it down.

        Raises:
            SignatureError: The signature, a tool, a limit or another argument is invalid; says which and why.
            PackageError: A package cannot be installed; says which and why.
            EngineError: The sandbox engine cannot be installed.
        """
        super().__init__()
        servers, functions = split_servers(tools)
        normalized = normalize_tools(functions)
        pool = checked_pool(pool)
        signature = check_signature(with_known_types(signature), normalized)
        self._config = RLMConfig(
            signature=signature,
            tools=normalized,
            servers=servers,
            budget=Budget(
                checked_turns(max_iterations, max_iters),
                max_llm_calls,
                max_depth,
                max_cost,
                max_tokens,
                max_seconds,
                max_errors,
                prices,
            ),
            limits=checked_limits(limits, pool, max_output_chars),
            sub_lm=checked_sub_lm(sub_lm),
            types=type_rules(checked_rules(types)),
            packages=pool.packages if pool and packages is None else ready_packages(packages),
            pool=pool,
            interpreter_factory=checked_factory(interpreter_factory, interpreter),
            max_concurrency=check_concurrency(max_concurrency),
            verbose=verbose,
            live=checked_live(live),
            style=checked_style(style),
            memo=checked_memo(memo),
            view=HistoryOptions(history_tokens, compaction, observations),
            **checked_ending(on_exhausted, stop_seconds),
            journal=checked_journal(journal),
            checkpoints=checked_policy(checkpoints),
            **checked_answers(signature, validators, track_coverage, require_coverage),
        )
        warn_of_hiding_names(self.signature, stacklevel=4)
        self._context: RunContext | None = None  # set for a sub-run; a root run creates its own
        self._extract: dspy.Predict | None = None
        self.generate_action = ActionPredictor(self.default_signature())

    # ---- Predictors ----

    def default_signature(self) -> type[dspy.Signature]:
        """Returns the predictor's signature before an optimizer has changed it."""
        return default_signature(self._config)

    def action_signature(self) -> type[dspy.Signature]:
        """Returns the predictor's signature with the contract after the block that optimizers own."""
        depth = self._context.depth if self._context else 0
        factory = factory_of(self._config)
        return composed_signature(self._config, self.generate_action, factory, depth)

    @property
    def extract(self) -> dspy.Predict:
        """The predictor that extracts outputs once the turns are used up.

        It is built on demand, so that optimizers do not see it as a parameter, unless one was set."""
        if self._extract is not None:
            return self._extract
        return default_extractor(self.signature, self.generate_action)

    @extract.setter
    def extract(self, extractor: dspy.Predict) -> None:
        self._extract = extractor

    # ---- Servers of tools ----

    def close(self) -> None:
        """Closes the MCP servers of this RLM. A later call opens them again."""
        close_all(self._config.servers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # ---- Copies and saved states ----

    _LIVE = frozenset({"_config", "_context"})

    dump_state = module_state
