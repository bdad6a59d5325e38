"""A long list, clustered and categorised: every item is assigned exactly once, which the host checks.

    python examples/categorise.py                        # 5,000 short descriptions from Python's library
    python examples/categorise.py items.txt              # one item in each line

Scripted policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from pathlib import Path

import dspy
from real_text import docstrings

import dspy_rlm
from dspy_rlm.testing import Action, choose_models, policy, rules


class Categorise(dspy.Signature):
    """Find categories for a list of items, and assign each item to one of them."""

    items: list[str] = dspy.InputField()
    hint: str = dspy.InputField(desc="what kind of categories are wanted")
    categories: dict[str, list[int]] = dspy.OutputField(
        desc="for each category the indexes of its items, from 0"
    )


def every_item_once(items, categories):
    """Each index occurs in exactly one category."""
    seen = [index for indexes in categories.values() for index in indexes]
    missing = sorted(set(range(len(items))) - set(seen))
    twice = sorted(index for index, count in Counter(seen).items() if count > 1)
    unknown = sorted(set(seen) - set(range(len(items))))
    problems = [
        ("in no category", missing),
        ("in several", twice),
        ("no index of an item", unknown),
    ]
    return [
        f"{len(found)} items are {what}, such as {found[:10]}" for what, found in problems if found
    ]


PROPOSE = r"""
import random
sample = random.Random(0).sample(items, min(150, len(items)))
names = sub_llm(
    f'Propose at most 12 categories for items like these ({hint}). One name in each line, nothing else.\n'
    + '\n'.join(sample)
).split('\n')
names = [name.strip() for name in names if name.strip()]
print(len(items), 'items;', names)
"""

ASSIGN = r"""
import re
def assign(indexes, size=50):
    groups = [indexes[at:at + size] for at in range(0, len(indexes), size)]
    prompts = [
        'Categories: ' + ', '.join(names) + '.\nAssign each item to one of them: its number, a colon, the category.\n'
        + '\n'.join(f'{i}: {items[i]}' for i in group)
        for group in groups
    ]
    for group, reply in zip(groups, sub_llm_batched(prompts)):
        for number, name in re.findall(r'^(\d+): *(.+?) *$', reply, re.M):
            if int(number) in set(group) and name in names:
                category[int(number)] = name
    return len(prompts)
category = {}
prompts = assign(list(range(len(items))))
print(prompts, 'prompts;', len(items) - len(category), 'items without a category')
"""

SUBMIT = r"""
categories = {name: [i for i, own in category.items() if own == name] for name in names}
SUBMIT(categories={name: indexes for name, indexes in categories.items() if indexes})
"""

AGAIN = (
    r"""
for _ in range(3):
    if missing := [i for i in range(len(items)) if i not in category]:
        assign(missing, size=20)
        print(len(missing), 'asked again,', sum(i not in category for i in missing), 'left')
"""
    + SUBMIT
)


@policy
def root(task):
    """Plays the root LM. It submits before it has looked for gaps, and the validator finds them."""
    yield Action("A sample shows what categories there could be.", PROPOSE)
    yield Action("The sub-LM assigns fifty items in a prompt, all prompts in one batch.", ASSIGN)
    yield Action("Submit.", SUBMIT)
    yield Action("Some items have no category yet: ask for those again.", AGAIN)


WORDS = {
    "reading and writing": "read|writ|file|stream|buffer|open|load|dump|print",
    "text and parsing": "pars|string|text|charact|format|encod|decod|token|regular",
    "network": "socket|connect|server|request|http|host|mail|url|address|header",
    "processes and threads": "thread|process|task|lock|event|signal|wait|cancel|corout|queue",
    "data structures": "list|dict|set|sequence|element|item|map|iter|key|node|tree",
    "numbers and time": "number|float|integer|decimal|time|date|second|random|mean",
    "classes and code": "class|method|function|attribute|module|import|object|argument|call",
}  # fmt: skip


def assigned(match: re.Match[str]) -> str:
    """Plays the sub-LM: by the first word that fits. Like real models, it leaves an item out here and there."""
    lines = []
    for number, item in re.findall(r"^(\d+): (.*)$", match[1], re.MULTILINE):
        name = next(
            (name for name, words in WORDS.items() if re.search(words, item, re.IGNORECASE)),
            "other",
        )
        if len(match[1]) < 2_000 or int(number) % 97:
            lines.append(f"{number}: {name}")
    return "\n".join(lines)


sub = rules([
    (r"^Propose", lambda match: "\n".join([*WORDS, "other"])),
    (re.compile(r"the category\.\n(.*)", re.DOTALL), assigned),
])  # fmt: skip


def ask(items: list[str], hint: str, models) -> dspy.Prediction:
    """Categorises a list."""
    calls = 20 + len(items) // 20
    rlm = dspy_rlm.RLM(
        Categorise, sub_lm=models.sub, max_llm_calls=calls, validators=[every_item_once]
    )
    with dspy.context(lm=models.root):
        return rlm(items=items, hint=hint)


def main(arguments: list[str] | None = None) -> dspy.Prediction:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--hint", default="by subject")
    parser.add_argument(
        "--packages", nargs="*", default=[], help="only these packages of the library"
    )
    options = parser.parse_args(arguments)
    items = (
        options.file.read_text("utf-8").splitlines()
        if options.file
        else docstrings(*options.packages)
    )
    prediction = ask(items, options.hint, choose_models(root, sub))
    for name, indexes in sorted(prediction.categories.items(), key=lambda pair: -len(pair[1])):
        print(f"{len(indexes):6}  {name:24} {items[indexes[0]][:70]}")
    print(f"{sum(map(len, prediction.categories.values())):6}  of {len(items)} items, each once")
    return prediction


if __name__ == "__main__":
    main()
