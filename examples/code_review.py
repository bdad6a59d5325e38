"""Code review of a diff, with the whole tree at hand: findings point to lines that the diff adds, and quote them.

    python examples/code_review.py                       # a diff of Python's own json module, with four mistakes
    python examples/code_review.py ./repo --diff my.diff   # `git diff main > my.diff`

Scripted policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import argparse
import difflib
import re
from pathlib import Path
from typing import Literal

import dspy
import pydantic
from real_text import python_files

import dspy_rlm
from dspy_rlm import Quote
from dspy_rlm.sources import load_texts
from dspy_rlm.testing import Action, choose_models, fields, policy


class Finding(pydantic.BaseModel):
    """A remark about one line of the diff."""

    path: str
    line: int = pydantic.Field(description="the line's number in the new file")
    code: Quote = pydantic.Field(description="the line, verbatim")
    severity: Literal["bug", "risk", "style"]
    remark: str


class Review(dspy.Signature):
    """Review a diff. Look at the code around it, and at the callers of what it changes; remark only on lines that it adds."""

    diff: str = dspy.InputField(desc="unified diff")
    code: dict[str, str] = dspy.InputField(desc="the new files of the whole tree by path")
    findings: list[Finding] = dspy.OutputField(
        desc="the most severe first; empty if there is nothing to say"
    )


def added_lines(diff: str) -> dict[tuple[str, int], str]:
    """Returns the lines that a diff adds, by path and number."""
    found, path, number = {}, "", 0
    for line in diff.splitlines():
        if line.startswith("+++ "):
            path = line[4:].split("\t")[0].removeprefix("b/")
        elif match := re.match(r"@@ -\S+ \+(\d+)", line):
            number = int(match[1])
        elif line.startswith("+"):
            found[path, number] = line[1:]
            number += 1
        elif not line.startswith(("-", "\\")):
            number += 1
    return found


def findings_are_about_added_lines(diff, findings):
    """Each finding names a line that the diff adds, and quotes that line."""
    added = added_lines(diff)
    for finding in findings:
        text = added.get((finding.path, finding.line))
        if text is None:
            return f"{finding.path}:{finding.line} is not a line that the diff adds"
        if finding.code.text.strip() not in text:
            return f"{finding.path}:{finding.line} reads {text!r}"
    return None


HUNKS = r"""
import re
hunks, path = [], ''
for line in diff.splitlines():
    if line.startswith('+++ '):
        path = line[4:].split('\t')[0].removeprefix('b/')
    elif line.startswith('@@'):
        hunks.append({'path': path, 'start': int(re.search(r'\+(\d+)', line)[1]), 'lines': []})
    elif hunks and not line.startswith('--- '):
        hunks[-1]['lines'].append(line)
print(len(hunks), 'hunks in', len({h['path'] for h in hunks}), 'files;', len(code), 'files in the tree')
"""

CALLERS = r"""
changed = {}  # functions whose head the diff changes, with the lines that call them
for hunk in hunks:
    for line in hunk['lines']:
        if match := re.match(r'\+\s*def (\w+)\(', line):
            pattern = re.compile(rf'(?<!def )\b{match[1]}\(')
            changed[match[1]] = [
                f'{p}:{n}: {text.strip()}' for p, source in code.items()
                for n, text in enumerate(source.splitlines(), 1) if pattern.search(text)
            ]
print({name: len(calls) for name, calls in changed.items()})
"""

JUDGE = r"""
rows = [
    {'hunk': '\n'.join(h['lines']),
     'callers': '\n'.join(c for name, calls in changed.items() if f'def {name}(' in '\n'.join(h['lines']) for c in calls[:20])}
    for h in hunks
]
judged = predict_batched(
    'hunk: str, callers: str -> lines: list[str], severities: list[str], remarks: list[str]', rows
)
findings = []
for hunk, row in zip(hunks, judged):
    for text, severity, remark in zip(row.lines, row.severities, row.remarks) if row in judged.ok else ():
        number = hunk['start']
        for line in hunk['lines']:
            if line.startswith('+') and line[1:].strip() == text.strip():
                findings.append({'path': hunk['path'], 'line': number, 'code': text.strip(),
                                 'severity': severity, 'remark': remark})
                break
            number += not line.startswith('-')
order = ['bug', 'risk', 'style']
findings.sort(key=lambda finding: order.index(finding['severity']))
for finding in findings:
    print(finding['path'], finding['line'], finding['severity'], finding['remark'])
"""


@policy
def root(task):
    """Plays the root LM: parses the diff, finds callers, and lets the sub-LM judge each hunk."""
    yield Action("Split the diff into hunks.", HUNKS)
    yield Action("Who calls what it changes? The tree knows.", CALLERS)
    yield Action("The sub-LM judges each hunk, with its callers.", JUDGE)
    yield Action("Submit.", "SUBMIT(findings=findings)")


RULES = [
    (r"def .*=\s*(\[\]|\{\})", "bug", "a mutable default is shared by all calls"),
    (r"^\s*except\s*:", "risk", "this also catches KeyboardInterrupt and SystemExit"),
    (r"[!=]=\s*None", "style", "compare with None by identity"),
    (r"\beval\(", "risk", "eval of data runs code"),
]


@fields
def sub(inputs):
    """Plays the sub-LM: a linter of four rules for the added lines."""
    found = [
        (line[1:].strip(), severity, remark)
        for line in inputs["hunk"].splitlines()
        if line.startswith("+")
        for pattern, severity, remark in RULES
        if re.search(pattern, line[1:])
    ]
    lines, severities, remarks = map(list, zip(*found, strict=True)) if found else ([], [], [])
    return {"lines": lines, "severities": severities, "remarks": remarks}


# Changes to real code, each of which a reviewer should object to.
CHANGES = {
    "json/__init__.py": ("def detect_encoding(b):", "def detect_encoding(b, seen=[]):"),
    "json/decoder.py": ("            except KeyError:", "            except:"),
    "json/encoder.py": ("o is None", "o == None"),
    "json/scanner.py": ("parse_int(integer)", "eval(integer)"),
}


def make_diff() -> tuple[str, dict[str, str]]:
    """Returns a diff with mistakes, and the tree after it."""
    tree, parts = python_files("json", "email", "http", "importlib", "logging", "urllib"), []
    for path, (old, new) in CHANGES.items():
        before, tree[path] = tree[path], tree[path].replace(old, new, 1)
        assert tree[path] != before, path
        parts += difflib.unified_diff(
            before.splitlines(), tree[path].splitlines(), f"a/{path}", f"b/{path}", lineterm=""
        )
    return "\n".join(parts), tree


def ask(diff: str, code: dict[str, str], models) -> dspy.Prediction:
    """Reviews a diff."""
    rlm = dspy_rlm.RLM(Review, sub_lm=models.sub, validators=[findings_are_about_added_lines])
    with dspy.context(lm=models.root):
        return rlm(diff=diff, code=code)


def main(arguments: list[str] | None = None) -> dspy.Prediction:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--diff", type=Path)
    options = parser.parse_args(arguments)
    if options.folder and options.diff:
        diff, code = options.diff.read_text("utf-8"), dict(load_texts([options.folder]).by_path)
    else:
        diff, code = make_diff()
    print(
        f"{len(diff.splitlines())} lines of diff, {len(code)} files, {sum(map(len, code.values())):,} characters"
    )
    prediction = ask(diff, code, choose_models(root, sub))
    for finding in prediction.findings:
        print(
            f"  {finding.path}:{finding.line}: {finding.severity}: {finding.remark}\n      {finding.code.text}"
        )
    return prediction


if __name__ == "__main__":
    main()
