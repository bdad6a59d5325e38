"""`dspy-rlm run program.py:rlm`: one run of a program's RLM, with the flags, the object and the exit codes of `ask`."""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import dspy

from dspy_rlm.cli.ask import Plan, run_ask
from dspy_rlm.cli.asking.models import lm_of, no_model, sub_lms_of
from dspy_rlm.cli.asking.request import Request
from dspy_rlm.cli.asking.tool_functions import servers_of, tools_of
from dspy_rlm.cli.configuration.sources import settled
from dspy_rlm.cli.exit_codes import USAGE, CommandError
from dspy_rlm.cli.journals import find_run, journal_of
from dspy_rlm.cli.notes import Notes
from dspy_rlm.cli.programs.inputs import inputs_of
from dspy_rlm.cli.programs.loading import load_rlm
from dspy_rlm.errors import InputError, SignatureError
from dspy_rlm.rlm import RLM
from dspy_rlm.tools.sources import normalize_tools


def run_rlm(
    request: Request,
    notes: Notes,
    place: str,
    name: str,
    flags: Sequence[str],
    options: argparse.Namespace,
    *,
    as_module: bool,
) -> int:
    """Runs an RLM of a program; returns the exit code.

    Args:
        request: The flags, as `ask` has them.
        notes: What is written to stderr.
        place: The program: a file, or a module's name.
        name: The name of the RLM in it.
        flags: The flags that are inputs.
        options: The parsed arguments.
        as_module: True for a module's name.

    Raises:
        Exception: There is no answer. `exit_codes.code_of` has its exit code.
    """
    # What a program prints while it is imported is no part of the answer.
    with contextlib.redirect_stdout(sys.stderr):
        program = load_rlm(place, name, as_module=as_module)
    module = configured_module(program, options)
    if options.state:
        module = loaded(module, options.state)
    inputs = inputs_of(
        module.signature,
        flags,
        options.named_inputs,
        options.inputs,
        optional=request.resume is not None,
    )
    lm = root_lm(module, options)
    # It is that of the context: a dry run replaces it there.
    module.generate_action = copy.copy(module.generate_action)
    module.generate_action.lm = None
    subs = module._config.models
    names = {} if subs is None else {key: str(one.model) for key, one in subs.by_name.items()}
    request = dataclasses.replace(request, model=str(lm.model), sub_models=names)
    path = find_run(request.resume) if request.resume is not None else None

    def start(module: RLM, inputs: Mapping[str, Any]) -> dspy.Prediction:
        prediction: dspy.Prediction = (
            module(**inputs) if path is None else module.resume(path, **inputs)
        )
        return prediction

    what = f"Going on with {path}" if path is not None else f"Running {name} of {place}"
    plan = Plan(
        module, lm, inputs, start, what, tuple(dict.fromkeys([str(lm.model), *names.values()]))
    )
    return run_ask(request, notes, lambda _: plan)


def configured_module(program: RLM, options: argparse.Namespace) -> RLM:
    """Returns a copy of a program's RLM with what flags set. Its models and limits stay as they are otherwise.

    Raises:
        CommandError: A limit is not valid, or a tool cannot be imported.
    """
    from dspy_rlm.cli.asking.request import Budgets, named_models, prices

    module: RLM = copy.copy(program)
    names = {one.name for one in dataclasses.fields(Budgets)} - {"prices"}
    limits = Budgets(
        **{limit: getattr(options, limit) for limit in names}, prices=prices(options.prices) or None
    ).set
    journal = settled(options, {"journal"}).journal
    try:
        for limit in ("max_output_chars", "max_concurrency"):
            if limit in limits:
                setattr(module, limit, limits.pop(limit))
        module.budget = dataclasses.replace(module.budget, **limits)
        if options.tools:
            tools = normalize_tools([*module.tools.values(), *tools_of(options.tools)])
            module._config = dataclasses.replace(module._config, tools=tools)
        if paths := getattr(options, "mcp", []):
            servers = (*module._config.servers, *servers_of(paths))
            module._config = dataclasses.replace(module._config, servers=servers)
    except (SignatureError, ValueError) as error:
        raise CommandError(str(error), USAGE) from error
    if options.on_exhausted:
        module.on_exhausted = options.on_exhausted
    # Models belong together: those that are configured are for a program without any.
    has_own = module.sub_lm is not None or own_lm(module) is not None
    settings = settled(options, {"api_base"} if has_own else {"api_base", "sub_model"})
    if settings.sub_models:
        module.sub_lm = sub_lms_of(named_models(settings.sub_models), settings.api_base)
    if options.journal is not None or (module.journal is None and journal is not None):
        module.journal = journal_of(journal)
    if options.json:
        module.track_coverage = True
    return module


def loaded(module: RLM, path: str) -> RLM:
    """Returns a copy of an RLM with a saved state.

    Raises:
        InputError: It cannot be read, or is none of an RLM.
    """
    lm = module.generate_action.lm
    copied: RLM = module.deepcopy()
    try:
        copied.load(path)
    except Exception as error:  # a file may have anything
        raise InputError(
            f"{path} is no state of this RLM: {type(error).__name__}: {error}. `dspy-rlm optimize` saves one."
        ) from error
    copied.generate_action.lm = lm
    return copied


def own_lm(module: RLM) -> dspy.LM | None:
    """Returns the LM that the program has set, for the RLM or for all of DSPy."""
    lm: dspy.LM | None = module.generate_action.lm or dspy.settings.lm
    return lm


def root_lm(module: RLM, options: argparse.Namespace) -> dspy.LM:
    """Returns the LM that writes the code: that of the flag, else the program's own, else the configured one.

    Raises:
        CommandError: There is none.
    """
    own = own_lm(module)
    if options.model is None and own is not None:
        return own
    settings = settled(options, {"model", "api_base"})
    if not settings.model:
        raise no_model()
    return lm_of(settings.model, settings.api_base)
