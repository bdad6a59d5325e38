"""Builds a run: checks the inputs, and puts together the REPL's functions and the run's place in its tree.

Finds every error that can be found before the run costs anything.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import dspy

from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.concurrency.anyio_threads import current
from dspy_rlm.dspy_bridge.interpreter_factory import InterpreterFactory, is_ours
from dspy_rlm.dspy_bridge.reply_adapter import reply_adapter
from dspy_rlm.dspy_bridge.streaming import (
    announce_sub_calls,
    extract_settings,
    on_stream,
    streaming_sink,
)
from dspy_rlm.dspy_internals.credentials import check_key
from dspy_rlm.events import Sink
from dspy_rlm.evidence.answers import Answers
from dspy_rlm.evidence.coverage import Coverage, budget_with
from dspy_rlm.limiting.gate import DEFAULT_CONCURRENCY, Gate, Gates
from dspy_rlm.lms.faults import read_fault
from dspy_rlm.lms.kept_answers.memo import RunMemo, open_memo
from dspy_rlm.lms.meter import Meter
from dspy_rlm.lms.metering import metered, metered_adapter
from dspy_rlm.lms.model_facts import check_price, facts_of, reply_room
from dspy_rlm.lms.schemas import Schemas
from dspy_rlm.lms.sub_lms import Models
from dspy_rlm.predictor import shown_demos
from dspy_rlm.prompts.styles import STYLES
from dspy_rlm.prompts.variables import describe
from dspy_rlm.protocols.middleware import only, wrap_all
from dspy_rlm.redaction import clean_errors
from dspy_rlm.repl.namespace import make_namespace
from dspy_rlm.run_context import RunContext, kept_variables
from dspy_rlm.runs.blueprint import Blueprint
from dspy_rlm.runs.children import start_child
from dspy_rlm.runs.endings.ending import EndingPolicy
from dspy_rlm.runs.observed.journaling import (
    recording_sinks,
    recording_wrappers,
    seed_of,
    with_recorder,
)
from dspy_rlm.runs.observed.tracing import tracing_sinks, tracing_wrappers, with_tracer
from dspy_rlm.runs.observed.viewing import live_sinks, live_wrappers, with_live
from dspy_rlm.runs.prompt import composed_signature, with_hint
from dspy_rlm.runs.run import Run
from dspy_rlm.runs.sandbox import PreparedRun
from dspy_rlm.settings.config import RLMConfig
from dspy_rlm.signatures.fields import may_be_missing
from dspy_rlm.signatures.inputs import check_inputs, split_options
from dspy_rlm.terminal.logged import logging_sink
from dspy_rlm.terminal.progress import Progress
from dspy_rlm.tools.secrets import ToolSecrets
from dspy_rlm.tools.sources import check_loop
from dspy_rlm.tools.user_tools import host_function
from dspy_rlm.tools.wrapping import counting
from dspy_rlm.values.bounded_parsing import bounded_adapter
from dspy_rlm.window.prompt_window import Room
from dspy_rlm.window.summaries import summary_predictor
from sandbox_runtime.helpers import OPTIONAL_OUTPUT, annotation_text, redact_secrets

# The characters of a prompt's contract and of the frame of DSPy's adapter, about. The first report of the LM corrects it.
FRAME_CHARS = 5_000


def prepare(
    blueprint: Blueprint,
    inputs: Mapping[str, Any],
    factory: InterpreterFactory | None,
    loop: asyncio.AbstractEventLoop | None,
) -> PreparedRun:
    """Builds a run.

    Args:
        blueprint: The parts of the RLM.
        inputs: The inputs by name, as the caller passed them.
        factory: Creates the interpreter that cells run in; None for our sandbox.
        loop: The event loop of an asynchronous run.

    Raises:
        InputError: The inputs do not fit the signature.
        LMNotConfiguredError: No LM is configured, or one has no key.
        PriceUnknownError: `max_cost` cannot be kept, because the price of an LM is unknown.
    """
    config, predictor = blueprint.config, blueprint.predictor
    options, arguments = split_options(config.signature, inputs)
    values = check_inputs(config.signature, arguments, config.types)
    check_loop(config.tools.values(), loop)
    lm = _checked_lm(options.pop("lm", None) or _action_lm(predictor))
    fields = config.signature.input_fields
    modules = (config.packages.imports if config.packages else ()) if is_ours(factory) else None
    variables = [
        describe(name, value, fields[name], config.types, modules) for name, value in values.items()
    ]
    context = _context(blueprint, factory, loop, lm)
    prelude = STYLES[config.style].prelude(list(values))
    context = with_recorder(blueprint, context, lm, values, prelude)
    context = with_tracer(context)
    context = with_live(blueprint, context, lm)
    ledger, depth, playback = context.ledger, context.depth, context.playback
    if depth == 0:
        for one in {id(one): one for one in (lm, *context.models.by_name.values()) if one}.values():
            _check_key(one)
            check_price(one, config.budget)
    coverage = Coverage(values, config.types) if config.track_coverage else None
    outer = context.coverage
    if coverage is not None:
        values = coverage.watched()
        context = dataclasses.replace(context, coverage=(*context.coverage, coverage))
    stream = current(loop)
    sinks: list[Sink] = [Progress(depth)] if config.verbose and context.live is None else []
    sinks += live_sinks(context)
    sinks += [watch(depth) for watch in config.watchers]
    sinks += filter(None, [logging_sink(depth)])
    sinks += [streaming_sink(blueprint.module, stream, depth)] if stream else []
    sinks += [*(one.sink_below for one in outer), *([coverage.sink] if coverage else [])]
    run = Run(
        config.signature,
        variables,
        config.budget,
        [
            *sinks,
            *([playback.observe] if playback else []),
            *recording_sinks(context.recorder),
            *tracing_sinks(context),
        ],
        config.types,
        ledger,
        depth,
        config.limits.output_chars,
        context.allowance,
        STYLES[config.style],
        context.recorder,
        EndingPolicy(config.on_exhausted, reads_variables=True) if depth == 0 else None,
        Answers(
            config.signature,
            config.types,
            values,
            config.validators,
            loop=loop,
            scope=context.run_scope,
            coverage=coverage,
            require_coverage=config.require_coverage,
        ),
        config.view,
        _room(config, lm, predictor),
        config.tools,
    )
    if context.live is not None:
        run.ending.stop.on_request = context.live.stopping
    if playback is not None:
        playback.bind(ledger, context.calls, run.note)
        run.before_report = playback.end
    if depth == 0:
        run.show_kept(kept_variables(context))
    secrets = context.secrets
    context = dataclasses.replace(
        context,
        note=lambda text: run.note(redact_secrets(text, secrets())),
        note_serial=run.note_serial,
    )
    vocabulary = make_namespace(
        context,
        config.tools,
        functools.partial(start_child, blueprint, context),
        run.budget_left if coverage is None else budget_with(coverage, run.budget_left),
        {*config.signature.input_fields, *config.tools},
        run.past,
        records=is_ours(factory),
    )
    tools = wrap_all(
        {name: host_function(tool, config.types) for name, tool in config.tools.items()},
        [run.ending.stop.around],
    )
    # From the inside out. DSPy's callbacks, where there are any, are around these: see `ReportedSandbox`.
    # The journal of a run that goes on has its recorded results already; another journal gets them too.
    repeated = [only(config.tools, playback.tool)] if playback is not None else []
    goes_on = playback is not None and playback.continues is not None
    wrappers = [
        *([] if goes_on else repeated),
        *([announce_sub_calls(run.sub_call, vocabulary)] if sinks else []),
        *live_wrappers(context, config.tools),
        *([on_stream(stream)] if stream else []),
        clean_errors(context.secrets),
        *(one.wrapper_below for one in outer),
        *([coverage.wrapper] if coverage else []),
        *recording_wrappers(context.recorder, config.tools),
        *(repeated if goes_on else []),
        *tracing_wrappers(context, config.tools),
        counting,
    ]
    # The first turn of a sub-run was charged when it requested its sandbox.
    # The turns of the root are not held back by the calls of its code.
    gate = context.gates.of(lm) if lm and depth > 0 else Gate(DEFAULT_CONCURRENCY)
    first = Meter(
        ledger,
        "action",
        depth,
        context.work_scope,
        context.tree_scope,
        gate,
        charged=depth > 0,
        included=int(depth > 0),
        allowance=context.allowance,
        answers=playback,
        stores=context.cell_answers[:-1],
        on_retry=run.retried,
        on_answer=run.window.counted,
        recorder=context.call_recorder,
    )
    last = Meter(
        ledger,
        "extract",
        depth,
        context.last_scope,
        context.tree_scope,
        gate,
        final=True,
        charged=depth > 0,
        settings=extract_settings(blueprint.module),
        allowance=context.allowance,
        answers=playback,
        stores=context.cell_answers[:-1],
        on_retry=run.retried,
        recorder=context.call_recorder,
    )
    adapter = bounded_adapter(
        functools.partial(metered_adapter, meter=dataclasses.replace(last, kind="adapter"))
    )
    last_lm = lm and metered(lm, last)
    run.extraction.was_cut = lambda: bool(getattr(last_lm, "reply_was_cut", False))
    last_adapter: Any = copy.copy(adapter)
    if hasattr(last_adapter, "use_json_adapter_fallback"):
        last_adapter.use_json_adapter_fallback = False  # a run asks again itself, with the reason
    prompt = _prompt(blueprint, context, lm=lm and metered(lm, first), **options)
    extractor = blueprint.extractor
    if depth == 0 and config.budget.is_metered:
        for signature in (prompt.get("signature"), getattr(extractor, "signature", None)):
            ledger.trust(getattr(signature, "instructions", ""))
    return PreparedRun(
        run=run,
        context=context,
        prompt=prompt,
        last_prompt=_if_dspys(extractor, lm=last_lm, **options),
        adapter=reply_adapter(adapter, STYLES[config.style]),
        last_settings={"trace": [], "adapter": last_adapter},
        values=values,
        functions=wrap_all({**vocabulary, **tools}, wrappers),
        outputs={
            name: annotation_text(field.annotation)
            + (OPTIONAL_OUTPUT if may_be_missing(field) else "")
            for name, field in config.signature.output_fields.items()
        },
        summarizer=_summarizer(
            config, lm and metered(lm, dataclasses.replace(last, kind="compact", final=False))
        ),
        stop_seconds=config.stop_seconds if depth == 0 else 0,
        prelude=prelude,
        has_draft=STYLES[config.style].papers_names and "answer" not in values,
        seed=seed_of(context),
        output_chars=context.limits.output_chars,
        checkpoints=config.checkpoints,
    )


def _room(config: RLMConfig, lm: dspy.BaseLM | None, predictor: dspy.Predict) -> Room:
    """Returns the room for the prompts of a run: the user's, and that of the LM's context window if it is known."""
    window = facts_of(lm).window if lm else None
    reply = reply_room(lm, window) if lm and window else 0
    own = getattr(predictor, "signature", None)
    demos = sum(
        len(str(value))
        for demo in shown_demos(getattr(predictor, "demos", ()))
        for value in demo.values()
    )
    return Room(
        config.view.history_tokens or math.inf,
        window - reply if window else math.inf,
        FRAME_CHARS + demos + len(getattr(own, "instructions", "")),
        config.view.compaction == "summary",
    )


def _summarizer(config: RLMConfig, lm: dspy.BaseLM | None) -> dspy.Predict | None:
    """Returns the predictor of summaries, if they are asked for and an LM can write them."""
    if config.view.compaction != "summary" or lm is None:
        return None
    predictor = summary_predictor()
    predictor.lm = lm
    return predictor


def _action_lm(predictor: dspy.Predict) -> dspy.BaseLM | None:
    """Returns the LM that writes the code. A user's own predictor may need none."""
    lm: dspy.BaseLM | None = getattr(predictor, "lm", None) or dspy.settings.lm
    if lm is None and isinstance(predictor, dspy.Predict):
        raise dspy.LMNotConfiguredError(
            "No LM is configured, so nothing can write code. Configure one with "
            "dspy.configure(lm=dspy.LM('openai/gpt-4o-mini')), or set it with rlm.set_lm(lm)."
        )
    return lm


def _checked_lm(lm: Any) -> dspy.BaseLM | None:
    """Returns the LM, if it is one: `dspy.configure` accepts anything."""
    if lm is None or isinstance(lm, dspy.BaseLM):
        checked: dspy.BaseLM | None = lm
        return checked
    raise dspy.LMNotConfiguredError(
        f"The configured LM is {lm!r:.200}, which is not an LM. Write "
        f"dspy.configure(lm=dspy.LM({lm if isinstance(lm, str) else 'openai/gpt-4o-mini'!r}))."
    )


def _check_key(lm: dspy.BaseLM) -> None:
    try:
        check_key(lm)
    except dspy.LMError as error:
        raise read_fault(error) from None


def _context(
    blueprint: Blueprint,
    factory: InterpreterFactory | None,
    loop: asyncio.AbstractEventLoop | None,
    lm: dspy.BaseLM | None,
) -> RunContext:
    """Returns the context of the run: that of a sub-run comes from the run above."""
    config = blueprint.config
    context = blueprint.context or RunContext.root(
        Ledger(config.budget),
        config.models or Models({"": lm} if lm else {}),
        loop,
        memo=RunMemo(open_memo(config.memo)) if config.memo else None,
        other_lms=(lm, dspy.settings.lm),
        tool_secrets=ToolSecrets(config.tools.values()),
        rules=config.types,
        limits=config.sandbox_limits,
        packages=config.packages,
        pool=config.lending_pool,
        schemas=Schemas(allowed=dspy.settings.adapter is None),
        playback=config.playback,
        gates=Gates(
            config.max_concurrency,
            {name: one.model for name, one in config.models.by_name.items()}
            if config.models
            else {},
        ),
    )
    return dataclasses.replace(context, annotations=config.annotations, interpreter_factory=factory)


def _prompt(blueprint: Blueprint, context: RunContext, **options: Any) -> dict[str, Any]:
    """Returns the predictor's arguments that stay the same in all turns."""
    predictor = blueprint.predictor
    signature = composed_signature(
        blueprint.config,
        predictor,
        context.interpreter_factory,
        context.depth,
        turns_take_prompts=context.allowance is not None and context.allowance.most_by_code is None,
    )
    demos = shown_demos(getattr(predictor, "demos", ()))
    hint: dict[str, str] = {}
    if isinstance(predictor, dspy.Predict):
        signature, hint = with_hint(signature, predictor)
    return {"signature": signature, **hint, **_if_dspys(predictor, demos=demos, **options)}


def _if_dspys(predictor: object, **arguments: Any) -> dict[str, Any]:
    """Returns the arguments for one of DSPy's predictors; none for a user's own predictor."""
    return arguments if isinstance(predictor, dspy.Predict) else {}
