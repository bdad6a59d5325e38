"""The LMs that the flags name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import dspy
from dspy import LMError

from dspy_rlm.cli.asking.request import MODEL_VARIABLE, SUB_MODEL_VARIABLE
from dspy_rlm.cli.exit_codes import CONFIGURATION, CommandError

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


def lm_of(
    model: str,
    api_base: str | None,
    cls: type[dspy.LM] = dspy.LM,
    options: Mapping[str, Any] | None = None,
) -> dspy.LM:
    """Returns the LM of a model's name.

    Args:
        model: The name, as DSPy has it.
        api_base: The address of its server; None for the provider's own.
        cls: The class of the LM.
        options: Its options, such as its temperature.

    Raises:
        CommandError: DSPy cannot use the name.
    """
    settings: dict[str, Any] = dict(options or {})
    if api_base:
        settings["api_base"] = api_base
        if model.startswith("openai/") and not os.environ.get("OPENAI_API_KEY"):
            settings["api_key"] = NO_KEY
    try:
        return cls(model, **settings)
    except (LMError, ValueError) as error:
        raise CommandError(
            f"Cannot use the model {model!r}: {str(error).rstrip('.')}. Write PROVIDER/NAME, such as "
            "openai/gpt-5-mini.",
            CONFIGURATION,
        ) from error


def sub_lms_of(
    models: Mapping[str, str], api_base: str | None, cls: type[dspy.LM] = dspy.LM
) -> dspy.LM | dict[str, dspy.LM] | None:
    """Returns the LMs that code can call, as the argument `sub_lm` of an RLM."""
    lms = {name: lm_of(model, api_base, cls) for name, model in models.items()}
    if list(lms) == [""]:
        return lms[""]
    return lms or None


def no_model() -> CommandError:
    """Returns the error for a command without a model."""
    return CommandError(
        f"No model is configured, so nothing can answer.\n\n{how_to_configure()}", CONFIGURATION
    )


def how_to_configure(model: str = "openai/gpt-5-mini") -> str:
    """Explains how to name a model and to give its key, with the variable of the model's own provider."""
    return HOW_TO_CONFIGURE.format(
        key=key_variable(model),
        model=model,
        model_variable=MODEL_VARIABLE,
        sub_model_variable=SUB_MODEL_VARIABLE,
    )


def key_variable(model: str) -> str:
    """Returns the name of the variable for the key of a model's provider."""
    provider = model.partition("/")[0] if "/" in model else "openai"
    name = "".join(part if part.isalnum() else "_" for part in provider).upper()
    return KEY_VARIABLES.get(provider, f"{name}_API_KEY")
