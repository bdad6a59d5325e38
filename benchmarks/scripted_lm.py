"""The LM of a scripted server, as DSPy's programs under measurement get it.

Imports DSPy when it is called: the benchmarks also run in environments without our packages.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def scripted_lm(url: str, model: str = "root") -> Any:
    """Returns the LM of this name at a server, without cache and retries: each request is one that is counted."""
    import dspy

    return dspy.LM(f"openai/{model}", api_base=url, api_key="none", cache=False, num_retries=0)


@contextmanager
def root_lm(url: str, model: str = "root") -> Iterator[None]:
    """Makes it the LM of programs in a `with` block, with DSPy's default adapter."""
    import dspy

    with dspy.context(lm=scripted_lm(url, model), adapter=dspy.ChatAdapter()):
        yield
