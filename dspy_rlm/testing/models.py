"""The models of a tutorial: those that the environment names, or scripted policies with a banner that says so.

The notebooks and the examples use it, so that each runs without a key and, with one more variable, with a real model.
"""

from __future__ import annotations

import atexit
import dataclasses
import os
import sys
from collections.abc import Mapping

import dspy

from dspy_rlm.testing.faults import Fault
from dspy_rlm.testing.players import Player
from dspy_rlm.testing.server import PolicyServer

# The settings of the command line, under the same names.
MODEL, SUB_MODEL, API_BASE = "DSPY_RLM_MODEL", "DSPY_RLM_SUB_MODEL", "DSPY_RLM_API_BASE"

SCRIPTED = (
    "Python functions answer in place of models: no network, no key, no cost. "
    "They show how the engine works, and say nothing about the accuracy of a model."
)
TO_SWITCH = f"{MODEL}=openai/gpt-5-mini in the environment runs this with a real model."


@dataclasses.dataclass(frozen=True)
class Models:
    """The root LM and the sub-LM of a tutorial."""

    root: dspy.LM
    """The LM that writes code."""

    sub: dspy.LM
    """The LM that code calls."""

    server: PolicyServer | None
    """The server that plays them; None if they are real."""

    @property
    def scripted(self) -> bool:
        """True if policies play the models. Assertions about their moves hold only then."""
        return self.server is not None


def choose_models(
    root: Player,
    sub: Player | None = None,
    *,
    faults: Mapping[str, Fault] | None = None,
    quiet: bool = False,
    always_scripted: bool = False,
) -> Models:
    """Returns the models that the environment names, or else starts a server that plays them, and says which.

    Args:
        root: The player of the root LM.
        sub: The player of the sub-LM; the root's if there is none.
        faults: The faults of the server, by `root` and `sub`, e.g. a delay for each reply.
        quiet: Whether to leave out the banner.
        always_scripted: Whether to ignore the environment, for a lesson about one certain course of events.
    """
    if not always_scripted and (name := os.environ.get(MODEL)):
        options = {"api_base": base} if (base := os.environ.get(API_BASE)) else {}
        sub_name = os.environ.get(SUB_MODEL) or name
        if not quiet:
            _show("Real models", f"The root LM is {name}, the sub-LM {sub_name}. They cost money.")
        return Models(dspy.LM(name, **options), dspy.LM(sub_name, **options), None)
    # DSPy looks for a newer table of prices when its first LM is created, unless this is set.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    server = PolicyServer({"root": root, "sub": sub or root}, faults=faults)
    atexit.register(server.close)
    if not quiet:
        text = SCRIPTED if always_scripted else f"{SCRIPTED} {TO_SWITCH}"
        _show("Scripted policies, no language models", text)
    return Models(server.lm("root"), server.lm("sub"), server)


def _show(title: str, text: str) -> None:
    """Displays a banner: in a notebook as HTML, elsewhere as a line on stderr."""
    if _in_notebook():
        from IPython.display import HTML, display

        style = (
            "border-left:4px solid #b8860b;background:rgba(184,134,11,.12);padding:8px 12px;"
            "margin:4px 0;max-width:960px;text-align:left"
        )
        display(HTML(f'<div style="{style}"><b>{title}.</b> {text}</div>'))
    else:
        sys.stderr.write(f"{title}. {text}\n")


def _in_notebook() -> bool:
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None
