"""The secrets among the settings of a server: hidden in errors and left out of saved states."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from dspy_rlm.lms.secrets import SecretSearch
from sandbox_runtime.helpers import HIDDEN, is_secret_name, redact_secrets, secrets_of


def secrets_in(
    command: Sequence[str] | None,
    url: str | None,
    env: Mapping[str, str],
    headers: Mapping[str, str],
) -> list[str]:
    """Returns the secrets in the settings of a server, judged by name and form."""
    found: dict[str, None] = {}
    for name, values in (("env", env), ("headers", headers)):
        found.update(
            dict.fromkeys(SecretSearch().within(name, values, 1, open_to=name == "headers"))
        )
    if url is not None:
        parts = urlsplit(url)
        named = [*parse_qsl(parts.query), ("password", parts.password or "")]
        for name, value in named:
            found.update(dict.fromkeys(secrets_of(name, value)))
    option = ""
    for word in command or ():
        name, is_assigned, value = word.partition("=")
        # `--api-key=...`, and `--api-key ...`.
        named = [(name.lstrip("-"), value)] if is_assigned else [(option, word)]
        option = "" if is_assigned or not word.startswith("-") else word.lstrip("-")
        for key, text in named:
            found.update(dict.fromkeys(secrets_of(key.replace("-", "_"), text)))
    return list(found)


def without_secrets(state: Mapping[str, Any], secrets: Sequence[str]) -> dict[str, Any]:
    """Returns settings without secrets, and the names of the removed ones: those of `env` and `headers`, and others."""
    kept = dict(state)
    missing: list[str] = list(state.get("_missing", ()))
    for part in ("env", "headers"):
        values = dict(kept[part])
        for name, value in list(values.items()):
            if is_secret_name(name) or redact_secrets(value, secrets) != value:
                del values[name]
                missing.append(f"{part}[{name!r}]")
        kept[part] = values
    for part in ("url", "command"):
        if kept[part] is None:
            continue
        words = [kept[part]] if part == "url" else kept[part]
        clean = [redact_secrets(word, secrets) for word in words]
        if clean != words:
            missing.append(f"{part} ({HIDDEN})")
            kept[part] = clean[0] if part == "url" else clean
    kept["_missing"] = missing
    return kept


def read_again(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings with the missing variables of `env` read from the environment, where they are set."""
    found = dict(state)
    found["env"] = dict(found["env"])
    missing = []
    for one in found.pop("_missing", ()):
        name = one.removeprefix("env['").removesuffix("']") if one.startswith("env[") else None
        if name is not None and name in os.environ:
            found["env"][name] = os.environ[name]
        else:
            missing.append(one)
    found["_missing"] = missing
    return found
