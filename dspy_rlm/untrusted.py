"""Text from outside, kept from looking like the harness's own in a prompt.

What cells print, what tools and sub-LMs return, and what inputs contain may be written by anybody. It
stays readable, and never begins a step, a fence or a field of the prompt.
"""

from __future__ import annotations

import re

# Whatever an LM may take for the beginning of a line.
_LINE_START = r"(?:^|(?<=[\r\v\f\x1c-\x1e\x85\u2028\u2029]))"

# What `Step.render` and `Variable.render` begin lines with, and fences.
_HARNESS = re.compile(
    rf"{_LINE_START}(?=[^\S\n]*(?:=== Step \d|Output \([\d,]+ chars\)|Code:|Reasoning:|Variable: `|`{{3}}|~{{3}}))",
    re.MULTILINE,
)

# The fields of our prompts as DSPy's adapters mark them: `[[ ## code ## ]]`, `<code>`.
_FIELD = re.compile(
    r"\[(?=\[\s*##)|<(?=/?(?:variables_info|repl_history|iteration|reasoning|code)>)"
)


def as_data(text: str) -> str:
    """The text with a backslash before whatever would look like the harness's own."""
    return _FIELD.sub(r"\\\g<0>", _HARNESS.sub(r"\\", text))
