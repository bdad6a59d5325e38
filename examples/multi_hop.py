"""Questions whose answer is spread over several documents: each hop is found, read, and quoted.

    python examples/multi_hop.py
    python examples/multi_hop.py --start SMTPAuthenticationError

The documents are the source files of Python's library; the question follows a class to its oldest ancestor, which no single file says. Scripted
policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import argparse
import builtins
import re

import dspy
import pydantic
from real_text import python_files

import dspy_rlm
from dspy_rlm import Quote
from dspy_rlm.testing import Action, choose_models, fields, policy


class Hop(pydantic.BaseModel):
    """A fact from one document, on the way to the answer."""

    fact: str
    document: str
    quote: Quote = pydantic.Field(description="the words of the document that state the fact")


class Trace(dspy.Signature):
    """Answer a question that takes facts from several documents. List the hops in order, each with a quote."""

    documents: dict[str, str] = dspy.InputField(desc="texts by name")
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    hops: list[Hop] = dspy.OutputField()


def hops_are_quoted_from_their_documents(documents, hops, answer):
    """Each hop's quote is in the document that it names, and the last one has the answer."""
    for hop in hops:
        if hop.quote.text not in documents.get(hop.document, ""):
            return f"{hop.quote.text!r} is not in {hop.document!r}"
    return None if hops and answer in hops[-1].fact else "the last hop must state the answer"


LOOK = r"""
import re
name = re.search(r'`(\w+)`', question)[1]
print(len(documents), 'documents;', name, 'is mentioned in', sum(name in text for text in documents.values()))
"""

# One hop in each turn: where it leads is only known once the sub-LM has read the passage.
HOP = r"""
hops = globals().get('hops', [])
places = [
    (doc, match) for doc, text in documents.items()
    for match in re.finditer(rf'^[ \t]*class {name}\b[^:]*:', text, re.M)
]
near = hops[-1]['document'] if hops else ''
places.sort(key=lambda place: (place[0] != near, place[0].split('/')[0] != near.split('/')[0], place[0]))
if places:
    doc, match = places[0]
    parent = predict('passage, name -> parent: str', passage=match[0], name=name).parent
    if parent:
        hops.append({'fact': f'{name} is derived from {parent}', 'document': doc, 'quote': match[0].strip()})
        name = parent.split('.')[-1]
    print('next:', parent or 'nothing')
else:
    print('next: nothing')
"""


@policy
def root(task):
    """Plays the root LM: one hop after the other, until no document defines the next name."""
    yield Action("Where is the class mentioned?", LOOK)
    for _ in range(12):
        seen = yield Action("Find its definition; the sub-LM says what it is derived from.", HOP)
        if "next: nothing" in seen.output:
            break
    yield Action(
        "No document defines the last name, so it is the end.", "SUBMIT(answer=name, hops=hops)"
    )


@fields
def sub(inputs):
    """Plays the sub-LM: the first base class in the head of a class."""
    match = re.search(r"class \w+\s*\(\s*([\w.]+)", inputs["passage"])
    return {"parent": match[1] if match else ""}


def oldest_ancestor(start: type) -> str:
    """Returns the truth, from the running Python: the first base that is built in, or has no further base."""
    while start.__base__ is not object and not hasattr(builtins, start.__name__):
        start = start.__base__
    return start.__name__


def ask(documents: dict[str, str], start: str, models) -> dspy.Prediction:
    """Follows a class through the documents."""
    rlm = dspy_rlm.RLM(Trace, sub_lm=models.sub, validators=[hops_are_quoted_from_their_documents])
    with dspy.context(lm=models.root):
        return rlm(
            documents=documents, question=f"From which class is `{start}` derived in the end?"
        )


def main(arguments: list[str] | None = None) -> dspy.Prediction:
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", default="_UnixSelectorEventLoop")
    parser.add_argument(
        "--packages", nargs="*", default=[], help="only these packages of the library"
    )
    options = parser.parse_args(arguments)
    documents = python_files(*options.packages)
    print(f"{len(documents)} documents, {sum(map(len, documents.values())):,} characters")
    prediction = ask(documents, options.start, choose_models(root, sub))
    for hop in prediction.hops:
        print(f"  {hop.document}, line {hop.quote.line}: {hop.fact}")
    print("answer:", prediction.answer)
    return prediction


if __name__ == "__main__":
    main()
