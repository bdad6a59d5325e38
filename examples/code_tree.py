"""The files of a code base that matter for a feature: `code_tree: dict -> files: list[str]`.

    python examples/code_tree.py                               # Python's library, 660 files
    python examples/code_tree.py ./src -f "retry failed downloads"

Scripted policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import dspy
from real_text import python_files

import dspy_rlm
from dspy_rlm.sources import load_texts
from dspy_rlm.testing import Action, choose_models, policy, rules


class FindFiles(dspy.Signature):
    """List the files that someone has to read or change for a feature, the most important first."""

    code_tree: dict[str, str] = dspy.InputField(desc="source files by path")
    feature: str = dspy.InputField()
    files: list[str] = dspy.OutputField(desc="paths of the tree, at most 25")
    why: dict[str, str] = dspy.OutputField(
        desc="for each of these files, the reason in a few words"
    )


def files_are_in_the_tree(files, why, code_tree):
    """Every path exists, is named once, and has a reason."""
    if unknown := [path for path in files if path not in code_tree]:
        return f"these are no paths of code_tree: {unknown[:5]}"
    if len(set(files)) != len(files):
        return "a file is named twice"
    return None if set(why) == set(files) else "each file needs a reason, and no other"


OUTLINE = r"""
import ast, warnings
warnings.simplefilter('ignore')
outlines, imports = {}, {}
for path, text in code_tree.items():
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        continue
    names = [n.name for n in tree.body if isinstance(n, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))]
    summary = (ast.get_docstring(tree) or '').strip().split('\n')[0]
    outlines[path] = f'{summary} | ' + ' '.join(name for name in names if name[0] != '_')[:300]
    imports[path] = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names} | {
        n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module
    }
print(len(code_tree), 'files,', len(outlines), 'outlines of', sum(map(len, outlines.values())), 'characters')
"""

JUDGE = r"""
import re
paths = list(outlines)
groups = [paths[at:at + 40] for at in range(0, len(paths), 40)]
prompts = [
    f'Which of these files matter for this feature?\n<feature>{feature}</feature>\n'
    + '\n'.join(f'{path}: {outlines[path]}' for path in group)
    + '\nAnswer with one line for each of them: its path, a colon, and the reason. If none does: none.'
    for group in groups
]
reasons = {}
for group, reply in zip(groups, sub_llm_batched(prompts)):
    for path, reason in re.findall(r'^(\S+\.\w+): (.+)$', reply, re.M):
        if path in group:
            reasons[path] = reason
print(len(prompts), 'prompts,', len(reasons), 'files:', *list(reasons)[:12])
"""

NEIGHBOURS = r"""
def module(path):
    return path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')
chosen = {module(path) for path in reasons}
users = {p: len(imports[p] & chosen) for p in imports if p not in reasons and imports[p] & chosen}
for path in sorted(users, key=users.get, reverse=True)[:5]:
    reasons[path] = 'imports ' + ', '.join(sorted(imports[path] & chosen))
files = list(reasons)[:25]
SUBMIT(files=files, why={path: reasons[path] for path in files})
"""


@policy
def root(task):
    """Plays the root LM: outlines by syntax tree, judgement by the sub-LM, neighbours by imports."""
    yield Action("Too much to read: an outline of each file is enough to judge it.", OUTLINE)
    yield Action("The sub-LM judges the outlines, forty files in a prompt.", JUDGE)
    yield Action("Files that import the chosen ones are affected too.", NEIGHBOURS)


def judge(match: re.Match[str]) -> str:
    """Plays the sub-LM: a file matters if its outline has a word of the feature."""
    words = [
        word
        for word in re.findall(r"[a-z]{4,}", match[1].lower())
        if word not in ("from", "with", "that", "into")
    ]
    chosen = []
    for path, outline in re.findall(r"^(\S+\.py): (.*)$", match[2], re.MULTILINE):
        found = [word for word in words if word.rstrip("s") in outline.lower()]
        if len(found) >= 2:
            chosen.append(f"{path}: its outline has {' and '.join(found[:3])}")
    return "\n".join(chosen) or "none"


sub = rules([(re.compile(r"<feature>(.*?)</feature>\n(.*)", re.DOTALL), judge)])


def ask(code_tree: dict[str, str], feature: str, models) -> dspy.Prediction:
    """Finds the files of a tree that matter for a feature."""
    rlm = dspy_rlm.RLM(
        FindFiles, sub_lm=models.sub, max_llm_calls=100, validators=[files_are_in_the_tree]
    )
    with dspy.context(lm=models.root):
        return rlm(code_tree=code_tree, feature=feature)


def main(arguments: list[str] | None = None) -> dspy.Prediction:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument(
        "-f", "--feature", default="read compressed mail archives (gzip, mailbox, zip)"
    )
    parser.add_argument(
        "--packages", nargs="*", default=[], help="only these packages of the library"
    )
    options = parser.parse_args(arguments)
    tree = (
        load_texts([options.folder]).by_path if options.folder else python_files(*options.packages)
    )
    print(f"{len(tree)} files, {sum(map(len, tree.values())):,} characters")
    prediction = ask(dict(tree), options.feature, choose_models(root, sub))
    for path in prediction.files:
        print(f"  {path:32} {prediction.why[path]}")
    return prediction


if __name__ == "__main__":
    main()
