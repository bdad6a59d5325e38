"""Page, to be written."""

from typing import Any


def page_of(result: Any) -> str:
    return f"<pre>{result}</pre>"
