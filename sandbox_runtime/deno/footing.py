"""What the driver stands on in Python, and how it is put back after a cell has changed it.

Runs inside the sandbox, so it uses the standard library only. What a cell adds to a module stays; what was
there is as it was.
"""

from __future__ import annotations

import json
import json.decoder
import json.encoder
import json.scanner

# By name: a cell that replaces them in their modules does not replace them here.
from builtins import all as every
from builtins import dict as table
from builtins import map as mapped
from builtins import setattr as put
from collections.abc import Callable, Mapping
from functools import partial
from operator import is_
from types import ModuleType
from typing import Any

# What every cell needs for its end, and most cells use themselves.
MODULES = (json, json.decoder, json.encoder, json.scanner)
CLASSES = (json.JSONDecoder, json.JSONEncoder)


class Footing:
    """Modules and classes as they are when this is made."""

    def __init__(self, modules: tuple[ModuleType, ...], classes: tuple[type, ...]) -> None:
        self._kept: list[tuple[Mapping[str, Any], Mapping[str, Any], Callable[[str, Any], None]]]
        self._kept = [(m.__dict__, table(m.__dict__), m.__dict__.__setitem__) for m in modules]
        for kind in classes:
            own = {n: v for n, v in kind.__dict__.items() if n not in ("__dict__", "__weakref__")}
            self._kept.append((kind.__dict__, own, partial(put, kind)))

    def restore(self) -> None:
        """Puts back what is not as it was. Fast if nothing has changed."""
        for now, own, restore in self._kept:
            if every(mapped(is_, mapped(now.get, own), own.values())):
                continue
            for name, value in own.items():
                if now.get(name) is not value:
                    restore(name, value)
