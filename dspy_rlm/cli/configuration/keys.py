"""The settings of the command line: their names, their types, and their values as texts and as TOML has them. No I/O."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

PREFIX = "DSPY_RLM_"

_OFF = frozenset({"0", "false", "no", "off"})
_ON = frozenset({"1", "true", "yes", "on"})

Kind: TypeAlias = Literal[
    "text",
    "address",
    "whole",
    "number",
    "switch",
    "ending",
    "models",
    "prices",
    "list",
    "files",
    "place",
]

_EXPECTED: Mapping[Kind, str] = {
    "text": "a text",
    "address": "an address that begins with http:// or https://",
    "whole": "a whole number",
    "number": "a number of 0 or more",
    "switch": "true or false",
    "ending": "extract, partial or raise",
    "models": "a model, a list of them, or a table of models by name",
    "prices": "a table of pairs by model, the dollars for a million tokens of prompts and of replies",
    "list": "a list of texts",
    "files": "a path, or a list of them",
    "place": "a path, true or false",
}


@dataclass(frozen=True)
class Key:
    """A setting. The flag is its name with dashes, the environment variable its name in capitals."""

    name: str
    kind: Kind
    help: str
    default: Any = None
    dest: str = ""
    """The attribute of the parsed arguments, where it has another name."""

    own_only: bool = False
    """True if a project's file must not have it: a downloaded project could run code or read keys with it."""

    @property
    def flag(self) -> str:
        """The flag."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"{PREFIX}{self.name.upper()}"

    @property
    def attribute(self) -> str:
        """The attribute of the parsed arguments."""
        return self.dest or self.name


KEYS = (
    Key("model", "text", "the LM that writes code"),
    Key("sub_model", "models", "the LMs that its code calls", dest="sub_models"),
    Key("api_base", "address", "the address of an OpenAI-compatible server"),
    Key("max_iterations", "whole", "turns of the LM that writes code", 20),
    Key("max_llm_calls", "whole", "LM calls of the code", 50),
    Key("max_depth", "whole", "levels of sub-runs", 1),
    Key("max_cost", "number", "US dollars of all LMs together"),
    Key("max_tokens", "whole", "tokens of all LMs together"),
    Key("max_seconds", "number", "wall time"),
    Key("max_errors", "whole", "failed turns in a row"),
    Key("max_output_chars", "whole", "characters of a cell's output that the LM sees", 10_000),
    Key("max_concurrency", "whole", "LM calls of the code at once", 16),
    Key("price", "prices", "prices of models that are unknown", dest="prices"),
    Key("on_exhausted", "ending", "the end of a run without a turn left", "extract"),
    Key("tools", "list", "Python functions that the code can call", own_only=True),
    Key("mcp", "files", "MCP servers whose tools the code can call", own_only=True),
    Key("journal", "place", "where runs are recorded"),
    Key("quiet", "switch", "do not show the steps", False),
    Key("plain", "switch", "show the steps as lines without colour", False),
    Key("allow_partial", "switch", "exit with 0 for a partial answer too", False),
)

BY_NAME = {key.name: key for key in KEYS}


class NotThisKindError(ValueError):
    """A value that does not fit its setting. Its text says what the setting takes."""

    def __init__(self, key: Key) -> None:
        super().__init__(_EXPECTED[key.kind])


def from_text(key: Key, text: str) -> Any:
    """Returns the value of an environment variable, in the form that the parsed arguments have. Lists have spaces.

    Raises:
        NotThisKindError: It does not fit.
    """
    match key.kind:
        case "models" | "prices" | "list" | "files":
            return text.split()
        case "switch" | "place" if text.lower() in _ON | _OFF:
            return text.lower() in _ON
        case "place":
            return text
        case "whole" | "number":
            try:
                return _number(key, int(text) if key.kind == "whole" else float(text))
            except ValueError:
                raise NotThisKindError(key) from None
    return from_toml(key, text)


def from_toml(key: Key, value: Any) -> Any:
    """Returns the value of a file, in the form that the parsed arguments have.

    Raises:
        NotThisKindError: It does not fit.
    """
    match key.kind, value:
        case (("text" | "place"), str()) if value.strip():
            return value
        case "address", str() if value.lower().startswith(("http://", "https://")):
            return value
        case (("switch" | "place"), bool()):
            return value
        case "whole", int() if not isinstance(value, bool):
            return _number(key, value)
        case "number", (int() | float()) if not isinstance(value, bool):
            return _number(key, float(value))
        case "ending", ("extract" | "partial" | "raise"):
            return value
        case (("models" | "list" | "files"), str()) if value.strip():
            return [value]
        case (("models" | "list" | "files"), [*texts]) if texts and _are_texts(texts):
            return texts
        case "models", {**named} if named and _are_texts(list(named.values())):
            return [f"{name}={model}" for name, model in named.items()]
        case "prices", {**named} if all(map(_is_price, named.values())):
            return [f"{model}={_price_text(pair)}" for model, pair in named.items()]
    raise NotThisKindError(key)


def _price_text(pair: Any) -> str:
    return f"{pair[0]},{pair[1]}"


def _number(key: Key, value: float) -> float:
    if not 0 <= value < math.inf:
        raise NotThisKindError(key)
    return value


def _are_texts(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) and value.strip() for value in values)


def _is_price(value: Any) -> bool:
    def is_rate(rate: Any) -> bool:
        return (
            isinstance(rate, (int, float)) and not isinstance(rate, bool) and 0 <= rate < math.inf
        )

    return isinstance(value, list) and len(value) == 2 and all(map(is_rate, value))


def nearest(name: str, names: Sequence[str], cutoff: float = 0.6) -> str:
    """Returns the name that is most like another; empty if none is."""
    import difflib

    return next(iter(difflib.get_close_matches(name, names, 1, cutoff)), "")
