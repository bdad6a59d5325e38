"""What a run is made of: the inputs checked, the REPL's functions, the place in the tree of runs.

Everything that can be wrong before it costs anything is found here.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dspy

from dspy_rlm.budget.ledger import Ledger
from dspy_rlm.concurrency.anyio_threads import current
from dspy_rlm.dspy_bridge.interpreter_factory import InterpreterFactory, is_ours, ours_if_lent
from dspy_rlm.dspy_bridge.streaming import (
    announce_sub_calls,
    extract_settings,
    on_stream,
    streaming_sink,
)
from dspy_rlm.events import Sink
from dspy_rlm.lms.metering import Meter, metered, metered_adapter
from dspy_rlm.lms.sub_lms import Models, named_models
from dspy_rlm.middleware import wrap_all
from dspy_rlm.predictor import shown_demos
from dspy_rlm.prompts import instructions
from dspy_rlm.prompts.variables import class_lines, describe
from dspy_rlm.redaction import clean_errors
from dspy_rlm.repl.namespace import make_namespace
from dspy_rlm.repl.sub_rlm import SubRun
from dspy_rlm.run_context import RunContext
from dspy_rlm.runs.run import Run
from dspy_rlm.runs.sandbox import PreparedRun
from dspy_rlm.signatures.inputs import check_inputs
from dspy_rlm.terminal.progress import print_event
from dspy_rlm.tools.user_tools import host_function
from dspy_rlm.values.bounded_parsing import bounded_adapter
from sandbox_runtime import Limits, default_pool
from sandbox_runtime.helpers import annotation_text

if TYPE_CHECKING:
    from dspy_rlm.rlm import RLM


def prepare(
    rlm: RLM,
    inputs: Mapping[str, Any],
    factory: InterpreterFactory | None,
    loop: asyncio.AbstractEventLoop | None,
) -> PreparedRun:
    """Everything of a run that can be wrong before it costs anything."""
    values = check_inputs(rlm.signature, inputs, rlm._types)
    lm = getattr(rlm.generate_action, "lm", None) or dspy.settings.lm
    if lm is None and isinstance(rlm.generate_action, dspy.Predict):
        raise dspy.LMNotConfiguredError(
            "No LM is configured, so nothing can write code. Configure one with "
            "dspy.configure(lm=dspy.LM('openai/gpt-4o-mini')), or set it with rlm.set_lm(lm)."
        )
    fields = rlm.signature.input_fields
    variables = [describe(name, value, fields[name], rlm._types) for name, value in values.items()]
    context = dataclasses.replace(
        rlm._context
        or RunContext.root(
            Ledger(rlm.budget),
            named_models(rlm.sub_lm) or Models({"": lm} if lm else {}),
            loop,
            rules=rlm._types,
            other_lms=(lm, dspy.settings.lm),
            limits=_limits(rlm),
            packages=rlm.packages,
            pool=rlm._pool or default_pool(),
        ),
        annotations=rlm.annotations(),
        interpreter_factory=factory,
    )
    ledger, depth = context.ledger, context.depth
    stream = current(loop)
    sinks: list[Sink] = [print_event] if rlm.verbose else []
    sinks += [streaming_sink(rlm, stream, depth)] if stream else []
    run = Run(
        rlm.signature,
        variables,
        rlm.budget,
        sinks,
        rlm._types,
        ledger,
        depth,
        rlm.limits.output_chars,
    )
    vocabulary = make_namespace(
        context,
        rlm._tools,
        functools.partial(_start_below, rlm, context),
        run.budget_left,
        {*rlm.signature.input_fields, *rlm._tools},
        records=is_ours(factory),
    )
    tools = {name: host_function(tool, rlm._types) for name, tool in rlm._tools.items()}
    # From the inside out. DSPy's callbacks, where there are any, are around these: see `ReportedSandbox`.
    wrappers = [
        *([announce_sub_calls(run.sub_call, vocabulary)] if sinks else []),
        *([on_stream(stream)] if stream else []),
        clean_errors(context.secrets),
    ]
    functions = wrap_all({**vocabulary, **tools}, wrappers)
    outputs = {n: annotation_text(f.annotation) for n, f in rlm.signature.output_fields.items()}
    # The first turn of a sub-run was charged when it asked for its sandbox.
    first = Meter(
        ledger, "action", depth, context.work_scope, charged=depth > 0, included=int(depth > 0)
    )
    last = Meter(
        ledger,
        "extract",
        depth,
        context.run_scope,
        final=True,
        charged=depth > 0,
        settings=extract_settings(rlm),
    )
    prompt = _prompt(rlm, factory, lm and metered(lm, first))
    extract = rlm.extract
    if depth == 0 and rlm.budget.is_metered:
        for signature in (prompt.get("signature"), getattr(extract, "signature", None)):
            ledger.trust(getattr(signature, "instructions", ""))
    return PreparedRun(
        run=run,
        prompt=prompt,
        last_prompt=_own(extract, lm=lm and metered(lm, last)),
        adapter=bounded_adapter(
            functools.partial(metered_adapter, meter=dataclasses.replace(last, kind="adapter"))
        ),
        context=context,
        values=values,
        functions=functions,
        outputs=outputs,
    )


def _prompt(rlm: RLM, factory: InterpreterFactory | None, lm: dspy.BaseLM | None) -> dict[str, Any]:
    """What the predictor is called with besides the inputs."""
    predictor = rlm.generate_action
    demos = shown_demos(getattr(predictor, "demos", ()))
    return {"signature": composed_signature(rlm, factory), **_own(predictor, demos=demos, lm=lm)}


def _own(predictor: object, **arguments: Any) -> dict[str, Any]:
    """The arguments, if the predictor is one of DSPy's. One of the user's own gets what DSPy gives it."""
    return arguments if isinstance(predictor, dspy.Predict) else {}


def _limits(rlm: RLM) -> Limits:
    """The sandbox's limits. Where a run has an end, its tools run in threads that it need not wait for."""
    if rlm.budget.max_seconds is None:
        return rlm.limits
    seconds = min(rlm.limits.call_seconds or math.inf, rlm.budget.max_seconds)
    return dataclasses.replace(rlm.limits, call_seconds=seconds)


def _start_below(rlm: RLM, context: RunContext, sub_run: SubRun) -> dspy.Prediction:
    """Runs what a cell of a run of this RLM has asked for, one level below."""
    child = rlm.spawn(
        sub_run.signature,
        max_output_chars=rlm.limits.output_chars,
        tools={name: rlm._tools[name] for name in sub_run.tools},
        sub_lm=rlm.sub_lm or sub_run.lm,
        limits=rlm.limits,
        packages=rlm.packages,
        interpreter_factory=ours_if_lent(context.interpreter_factory),
        types=rlm._types,
        pool=rlm._pool,
    )
    turns = min(sub_run.max_iterations or rlm.budget.max_iterations, rlm.budget.max_iterations)
    child.budget = dataclasses.replace(rlm.budget, max_iterations=turns)
    child._context = context.child(sub_run.setup, sub_run.lm)
    child.set_lm(sub_run.lm)
    compiled = getattr(rlm.generate_action, "signature", None) is not None
    if compiled and _is_same_task(sub_run.signature, rlm.signature):
        _share_what_was_compiled(rlm, child)
    with dspy.context(trace=[]):
        return child(**sub_run.inputs)


def _is_same_task(signature: type[dspy.Signature], whole: type[dspy.Signature]) -> bool:
    """Whether a part of a task is to be done as the whole is: the same fields, and nothing else said."""
    fields = [
        [(name, field.annotation) for name, field in side.items()]
        for one in (signature, whole)
        for side in (one.input_fields, one.output_fields)
    ]
    plain = dspy.Signature(
        f"{', '.join(signature.input_fields)} -> {', '.join(signature.output_fields)}"
    )
    said = (plain.instructions, whole.instructions)
    return fields[:2] == fields[2:] and signature.instructions in said


def _share_what_was_compiled(rlm: RLM, child: RLM) -> None:
    """Gives a sub-run the policy block and the demos of the run above, but not its tools' documents."""
    own, compiled = child.generate_action, rlm.generate_action
    block = instructions.without_tools(compiled.signature.instructions, rlm._tools.values())
    if instructions.CONTRACT_HEADING in block:
        return  # a baked one, whose contract is that of the run above
    own.signature = own.signature.with_instructions(block)
    own.demos = compiled.demos


def composed_signature(rlm: RLM, factory: InterpreterFactory | None) -> type[dspy.Signature]:
    """The predictor's signature as a run with this factory needs it."""
    ours = is_ours(factory)
    rules = (
        instructions.sandbox_rules(
            rlm.packages.imports if rlm.packages else (),
            class_lines(rlm.annotations(), rlm._types),
        )
        if ours
        else getattr(factory, "execution_instructions", "")
    )
    depth = rlm._context.depth if rlm._context else 0
    text = instructions.contract(
        rlm.signature, rlm._tools, rlm.budget, rules, named_models(rlm.sub_lm), depth, records=ours
    )
    own = getattr(rlm.generate_action, "signature", None) or rlm.default_signature()
    whole = instructions.compose(own.instructions, rlm._tools.values(), text)
    composed: type[dspy.Signature] = own.with_instructions(whole)
    return composed
