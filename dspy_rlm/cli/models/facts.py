"""The known facts about a model, each with its source: flags and settings, the server, or DSPy's table."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import dspy

from dspy_rlm.budget.budget import Budget
from dspy_rlm.budget.prices import described
from dspy_rlm.cli.asking.models import key_variable, lm_of
from dspy_rlm.cli.asking.request import named_models, prices
from dspy_rlm.cli.configuration.sources import Setting, settings
from dspy_rlm.cli.models.server import Listed, key_of

TABLE = "DSPy's table"
SERVER = "server"
UNKNOWN = "unknown"

# Tokens of the prompt that a price is stated for: below the limits from which some models charge more.
_USUAL_TOKENS = 10_000

_MILLION = 1_000_000


@dataclass(frozen=True)
class Fact:
    """A fact with its source."""

    value: Any
    source: str


@dataclass(frozen=True)
class Named:
    """A model that is configured or named."""

    role: str
    """`root`, `sub`, or `sub NAME`; `named` for one of the command line."""

    model: str
    source: str


@dataclass(frozen=True)
class ModelFacts:
    """The known facts about a model."""

    role: str
    model: str
    source: str
    """The flag, the variable or the file that names it."""

    api_base: str | None
    context: Fact
    """Tokens of a prompt at most."""

    reply: Fact
    """Tokens of a reply at most."""

    price: Fact
    """US dollars for a million tokens: of prompts and of replies."""

    key_variable: str
    key_is_set: bool

    def dump(self) -> dict[str, Any]:
        """Returns it as plain data for JSON."""
        return asdict(self)


def named(options: argparse.Namespace, names: list[str]) -> list[Named]:
    """Returns the models of the command line, or those that are configured."""
    if names:
        return [Named("named", name, "argument") for name in names]
    found: dict[str, Setting] = {one.name: one for one in settings(options)}
    models = []
    if (root := found["model"]).value:
        models.append(Named("root", root.value, _where(root)))
    if (subs := found["sub_model"]).value:
        models += [
            Named(f"sub {name}".rstrip(), model, _where(subs))
            for name, model in named_models(subs.value).items()
        ]
    return models


def _where(setting: Setting) -> str:
    return f"{setting.source} {setting.where}".rstrip()


def configured_prices(options: argparse.Namespace) -> tuple[Mapping[str, tuple[float, float]], str]:
    """Returns the prices of flags and settings, and their source."""
    setting = next(one for one in settings(options) if one.name == "price")
    return prices(setting.value or []), _where(setting)


def address(options: argparse.Namespace) -> str | None:
    """Returns the address of the server that is configured."""
    value: str | None = next(one.value for one in settings(options) if one.name == "api_base")
    return value


def facts_of(
    one: Named,
    api_base: str | None,
    own_prices: tuple[Mapping[str, tuple[float, float]], str],
    listed: Listed | None,
) -> ModelFacts:
    """Returns the known facts about a model.

    Raises:
        CommandError: DSPy cannot use its name.
    """
    lm = lm_of(one.model, api_base)
    entry = described(lm)
    windows = listed.windows if listed is not None else {}
    window = windows.get(one.model) or windows.get(one.model.partition("/")[2])
    variable = key_variable(one.model)
    return ModelFacts(
        one.role,
        one.model,
        one.source,
        api_base,
        Fact(window, SERVER) if window else _of_table(entry.longest_prompt),
        _of_table(entry.longest_reply),
        _price(lm, own_prices),
        variable,
        key_of(variable) is not None,
    )


def _of_table(value: Any) -> Fact:
    return Fact(value, UNKNOWN if value is None else TABLE)


def _price(lm: dspy.LM, own: tuple[Mapping[str, tuple[float, float]], str]) -> Fact:
    known, source = own
    model = str(lm.model)
    if (price := Budget(prices=known).price(model)) is not None:
        return Fact((price.input * _MILLION, price.output * _MILLION), source)
    table = described(lm).price(_USUAL_TOKENS, {})
    if table is None:
        return Fact(None, UNKNOWN)
    return Fact((round(table.input * _MILLION, 6), round(table.output * _MILLION, 6)), TABLE)
