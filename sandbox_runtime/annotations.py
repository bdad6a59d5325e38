"""Types as one writes them, for the reader of a prompt or of an error message."""

from __future__ import annotations

import sys
from typing import Any, ForwardRef, get_origin


def annotation_text(annotation: Any) -> str:
    """A type as one writes it: `list[int]`, `datetime.date | None`."""
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, (str, ForwardRef)):
        return annotation if isinstance(annotation, str) else annotation.__forward_arg__
    if get_origin(annotation) is not None or not isinstance(annotation, type):
        return str(annotation).replace("typing.", "")
    module = annotation.__module__
    shown = (
        module not in ("builtins", "typing") and module.partition(".")[0] in sys.stdlib_module_names
    )
    return f"{module}.{annotation.__qualname__}" if shown else annotation.__qualname__
