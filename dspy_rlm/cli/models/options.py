"""The flags of `dspy-rlm models` and `dspy-rlm doctor`."""

from __future__ import annotations

import argparse


def describe_models_command(models: argparse.ArgumentParser) -> None:
    """Adds the flags of `models`."""
    from dspy_rlm.cli.options import describe_models

    models.description = (
        "Shows the models that are configured, or those that are named: context window, longest reply, price, and the "
        "source of each fact. With an address, its list of models is read, which costs nothing. No model is called."
    )
    models.add_argument("names", metavar="MODEL", nargs="*", help="these models instead")
    models.add_argument(
        "--offline", action="store_true", help="do not ask the server of --api-base"
    )
    models.add_argument("--json", action="store_true", help="JSON instead of text")
    describe_models(models)
    _add_price(models)


def describe_doctor(doctor: argparse.ArgumentParser) -> None:
    """Adds the flags of `doctor`."""
    doctor.description = (
        "Starts a real sandbox and says which parts work on this machine, as `python -m sandbox_runtime doctor` does. With "
        "--model also tries a model: its key, its server, its context window, and a short hello, whose price is said "
        "first. Without --model nothing is sent."
    )
    doctor.add_argument("--json", action="store_true", help="one JSON object instead of text")
    doctor.add_argument(
        "--model",
        nargs="?",
        const=True,
        metavar="MODEL",
        help="try this model; without a value, those that are configured",
    )
    doctor.add_argument("--api-base", metavar="URL", help="address of an OpenAI-compatible server")
    doctor.add_argument("--no-hello", action="store_true", help="try everything that costs nothing")
    _add_price(doctor)


def _add_price(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--price",
        dest="prices",
        metavar="MODEL=PROMPT,REPLY",
        action="append",
        default=[],
        help="US dollars for a million tokens, for a model whose price is unknown",
    )
