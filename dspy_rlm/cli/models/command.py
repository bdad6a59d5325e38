"""`dspy-rlm models`: the configured models and the known facts about them. No model is called."""

from __future__ import annotations

import argparse
import json
import sys

from dspy_rlm.cli.asking.models import key_variable, no_model
from dspy_rlm.cli.models.facts import Fact, ModelFacts, address, configured_prices, facts_of, named
from dspy_rlm.cli.models.server import Listed, key_of, listed_at
from dspy_rlm.terminal.escaping import show, show_exactly

FORMAT, VERSION = "dspy-rlm/models", 1


def show_models(options: argparse.Namespace) -> int:
    """Prints the models.

    Raises:
        CommandError: None is configured, or DSPy cannot use a name.
    """
    models = named(options, options.names)
    if not models:
        raise no_model()
    api_base = address(options)
    listed = _listed(api_base, models[0].model) if api_base and not options.offline else None
    own_prices = configured_prices(options)
    facts = [facts_of(one, api_base, own_prices, listed) for one in models]
    if options.json:
        whole = {
            "format": FORMAT,
            "version": VERSION,
            "models": [one.dump() for one in facts],
            "server": None
            if listed is None
            else {
                "api_base": api_base,
                "models": [*listed.windows],
                "problem": listed.problem or None,
            },
        }
        show_exactly(json.dumps(whole, indent=2), sys.stdout)
        return 0
    show("\n".join(map(facts_text, facts)), sys.stdout)
    if listed is not None:
        show(_server_text(str(api_base), listed), sys.stderr)
    return 0


def _listed(api_base: str, model: str) -> Listed:
    return listed_at(api_base, key_of(key_variable(model)))


def facts_text(one: ModelFacts) -> str:
    """Returns the facts of a model in lines."""
    key = "is set" if one.key_is_set else "is not set"
    rows = [
        ("context", _tokens(one.context)),
        ("reply", _tokens(one.reply)),
        ("price", price_text(one.price)),
        ("key", f"{one.key_variable} {key}"),
    ]
    if one.api_base:
        rows.append(("address", one.api_base))
    return "\n".join(
        [f"{one.role}: {one.model} ({one.source})", *(f"  {name:<8} {text}" for name, text in rows)]
    )


def _tokens(fact: Fact) -> str:
    return "unknown" if fact.value is None else f"{fact.value:,} tokens ({fact.source})"


def price_text(fact: Fact) -> str:
    """Returns a price in words."""
    if fact.value is None:
        return "unknown; --price says it"
    prompt, reply = fact.value
    return f"${prompt:g} and ${reply:g} for a million tokens of prompts and replies ({fact.source})"


def _server_text(api_base: str, listed: Listed) -> str:
    if listed.problem:
        return f"{api_base} did not list its models: {listed.problem}."
    return f"{api_base} lists {', '.join(listed.windows) or 'no models'}."
