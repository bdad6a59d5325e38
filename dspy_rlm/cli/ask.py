"""`dspy-rlm ask`: answers a question about files with any model that DSPy supports."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dspy
from dspy import LMAuthError, LMConfigurationError, LMError
from pydantic_core import to_jsonable_python

from dspy_rlm.cli.files import load_texts
from dspy_rlm.errors import RunFailedError, SignatureError
from dspy_rlm.report import RunReport
from dspy_rlm.report_text import reason_of_extraction, spending
from dspy_rlm.rlm import RLM
from dspy_rlm.terminal.escaping import log_plainly, show, show_exactly

MODEL_VARIABLE, SUB_MODEL_VARIABLE = "DSPY_RLM_MODEL", "DSPY_RLM_SUB_MODEL"

HOW_TO_CONFIGURE = """\
Name a model, and give its key the way its provider wants it:

    export {key}=...
    dspy-rlm ask FILE -q QUESTION --model {model}

Any name that dspy.LM accepts works. The variables {model_variable} and {sub_model_variable} stand
for --model and --sub-model. For a server that speaks OpenAI's API (vLLM, llama.cpp, LM Studio, Ollama):

    dspy-rlm ask FILE -q QUESTION --model openai/NAME --api-base http://localhost:8000/v1

No model at hand? "dspy-rlm demo" shows the engine at work without one."""

# The variables for the keys of providers that are not called after them.
KEY_VARIABLES = {
    "fireworks_ai": "FIREWORKS_API_KEY",
    "huggingface": "HF_TOKEN",
    "together_ai": "TOGETHERAI_API_KEY",
    "vertex_ai": "GOOGLE_APPLICATION_CREDENTIALS",
}

# A self-hosted server usually requires no key, but the client must send one.
NO_KEY = "none"

# The longest JSON value that is printed on the same line as its name.
SHORT_JSON_CHARS = 80

# The exit code after Ctrl-C, also where there is an answer.
INTERRUPTED = 130


@dataclass(frozen=True)
class Request:
    """The parsed arguments of the command."""

    paths: Sequence[Path]
    question: str
    signature: str | None = None
    model: str | None = None
    sub_model: str | None = None
    api_base: str | None = None
    max_iterations: int = 20
    max_llm_calls: int = 50
    as_json: bool = False
    quiet: bool = False


def run_ask(request: Request) -> int:
    """Runs the question, prints outputs to stdout and everything else to stderr; returns the exit code.

    Raises:
        InputError: A file cannot be read, or does not match the signature.
        SignatureError: The signature, a limit or a model's name is invalid.
        SandboxError: The sandbox cannot be opened.
    """
    log_plainly()
    model = request.model or os.environ.get(MODEL_VARIABLE)
    if not model:
        _note(f"No model is configured, so nothing can answer.\n\n{how_to_configure()}")
        return 2
    sub_model = request.sub_model or os.environ.get(SUB_MODEL_VARIABLE)
    lm = _lm(model, request.api_base)
    sub_lm = _lm(sub_model, request.api_base) if sub_model else None
    name, value, loaded = load_variable(request.paths)
    rlm = RLM(
        checked_signature(request.signature, name),
        max_iterations=request.max_iterations,
        max_llm_calls=request.max_llm_calls,
        sub_lm=sub_lm,
        verbose=not request.quiet,
    )
    if not request.quiet:
        _note(f"{loaded}. Asking {model}{f' and {sub_model}' if sub_model else ''}.")
    try:
        with dspy.context(lm=lm):
            prediction = rlm(question=request.question, **{name: value})
    except RunFailedError as error:
        return _report_failure(error, request, model)
    except LMError as error:  # found before the run began, such as a missing key
        if request.as_json:
            _print_json({"error": f"{type(error).__name__}: {error}"})
        _note(f"dspy-rlm: no answer. {type(error).__name__}: {error}")
        _note(f"\n{how_to_configure(error.model or model)}")
        return 1
    outputs = {name: prediction[name] for name in rlm.signature.output_fields}
    if prediction.run.status == "partial":
        _note(
            f"dspy-rlm: {reason_of_extraction(prediction.run)}. Not found: "
            f"{', '.join(prediction.run.missing) or 'nothing'}. The rest was not submitted."
        )
    if prediction.run.status == "extracted":
        _note(
            f"dspy-rlm: {reason_of_extraction(prediction.run)}. This answer was extracted from the steps, not "
            "submitted."
        )
    if request.as_json:
        _print_json({"outputs": plain(outputs), **_facts(prediction.run)})
    else:
        # The printed steps have already shown the cost.
        _note(f"({spending(prediction.run)})" if request.quiet else "")
        show_exactly(answer_text(outputs), sys.stdout)
    return INTERRUPTED if prediction.run.stopped_by == "interrupted" else 0


def load_variable(paths: Sequence[Path]) -> tuple[str, Any, str]:
    """Returns the source variable's name and value, and a description of what was loaded.

    Raises:
        InputError: A file cannot be read, or there is none.
    """
    texts = load_texts(paths)
    loaded = f"Loaded {texts.summary}"
    if texts.skipped:
        loaded = f"{loaded}; skipped {texts.skipped_summary}"
    if len(paths) == 1 and not paths[0].is_dir():
        return "text", next(iter(texts.by_path.values())), loaded
    return "files", dict(texts.by_path), loaded


def checked_signature(signature: str | None, name: str) -> type[dspy.Signature]:
    """Parses the signature, whose inputs must be the source variable and the question.

    Raises:
        SignatureError: It has other inputs, or is not a signature.
    """
    kind = "str" if name == "text" else "dict[str, str]"
    signature = signature or f"{name}: {kind}, question: str -> answer: str"
    example = f'--sig "{name}, question -> answer: str, lines: list[int]"'
    try:
        checked: type[dspy.Signature] = dspy.Signature(signature)
    except Exception as error:  # DSPy's parser may raise anything
        raise SignatureError(
            f"{signature!r} is not a signature: {str(error).rstrip('.')}. Write {example}."
        ) from error
    names = list(checked.input_fields)
    if sorted(names) != sorted([name, "question"]):
        source = "there is one file, so it is" if name == "text" else "the files are"
        raise SignatureError(
            f"The signature needs the inputs {name!r} and 'question', and no others ({source} in "
            f"{name!r}). It has {', '.join(map(repr, names)) or 'none'}. Write {example}."
        )
    return checked


def _lm(model: str, api_base: str | None) -> dspy.LM:
    settings: dict[str, Any] = {}
    if api_base:
        settings["api_base"] = api_base
        if model.startswith("openai/") and not os.environ.get("OPENAI_API_KEY"):
            settings["api_key"] = NO_KEY
    try:
        return dspy.LM(model, **settings)
    except (LMError, ValueError) as error:
        raise SignatureError(f"Cannot use the model {model!r}: {error}") from error


def how_to_configure(model: str = "openai/gpt-5-mini") -> str:
    """Explains how to name a model and to give its key, with the variable of the model's own provider."""
    provider = model.partition("/")[0] if "/" in model else "openai"
    name = "".join(part if part.isalnum() else "_" for part in provider).upper()
    return HOW_TO_CONFIGURE.format(
        key=KEY_VARIABLES.get(provider, f"{name}_API_KEY"),
        model=model,
        model_variable=MODEL_VARIABLE,
        sub_model_variable=SUB_MODEL_VARIABLE,
    )


def _report_failure(error: RunFailedError, request: Request, model: str) -> int:
    cause = error.__cause__
    if request.as_json:
        _print_json({"error": f"{type(cause).__name__}: {cause}", **_facts(error.run)})
    _note(f"dspy-rlm: no answer. {type(cause).__name__}: {cause}\nSpent: {spending(error.run)}.")
    if isinstance(cause, LMAuthError | LMConfigurationError):
        _note(f"\n{how_to_configure(model)}")
    if request.api_base and not urlsplit(request.api_base).path.strip("/"):
        _note("The --api-base has no path. That of most servers ends with /v1.")
    return 1


def _facts(run: RunReport) -> dict[str, Any]:
    facts = run.dump()
    del facts["trajectory"]
    return facts


def plain(value: Any) -> Any:
    """Returns a value as JSON; values that JSON cannot represent become text."""
    return to_jsonable_python(value, fallback=str)


def answer_text(outputs: Mapping[str, Any]) -> str:
    """Renders the outputs: a single one alone, several with their names; other values than text as JSON."""
    texts = {name: _value_text(value) for name, value in outputs.items()}
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "\n".join(
        f"{name}:\n{text}" if "\n" in text else f"{name}: {text}" for name, text in texts.items()
    )


def _value_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    short = json.dumps(plain(value), ensure_ascii=False)
    if len(short) <= SHORT_JSON_CHARS:
        return short
    return json.dumps(plain(value), ensure_ascii=False, indent=2)


def _print_json(value: object) -> None:
    show_exactly(json.dumps(value, indent=2), sys.stdout)


def _note(text: str) -> None:
    show(text, sys.stderr)
