"""A conversation about a corpus: one REPL for all questions, and a history that later questions refer to.

    python examples/chat.py            # three questions about Python's reference manual
    python examples/chat.py --ask      # your own, with DSPY_RLM_MODEL set

Scripted policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import argparse
import sys
from pydoc_data.topics import topics as manual

import dspy

import dspy_rlm
from dspy_rlm.testing import Action, choose_models, policy, rules


class Talk(dspy.Signature):
    """Answer the question from the manual. It may refer to the conversation before."""

    manual: dict[str, str] = dspy.InputField(desc="sections by title")
    history: dspy.History = dspy.InputField()
    question: str = dspy.InputField()
    answer: str = dspy.OutputField()
    sections: list[str] = dspy.OutputField(desc="the titles that the answer relies on")


QUESTIONS = (
    "Which sections explain `yield`?",
    "And which of those mention `iterator`?",
    "How long are they together?",
)

SEARCH = """
import re
def having(word, titles=None, least=3):
    return [t for t in (titles or manual) if len(re.findall(rf'\\b{word}', manual[t])) >= least]
word = re.search(r'`(\\w+)`', question)[1]
found = having(word)
SUBMIT(answer=f'{len(found)} sections: {", ".join(found)}', sections=found)
"""

NARROW = """
before = history.messages[-1]['sections']
word = re.search(r'`(\\w+)`', question)[1]
found = having(word, before, least=1)  # defined by the call before
SUBMIT(answer=f'{len(found)} of {len(before)}: {", ".join(found)}', sections=found)
"""

MEASURE = """
before = history.messages[-1]['sections']
SUBMIT(answer=f'{sum(len(manual[t]) for t in before)} characters', sections=before)
"""


@policy
def root(task):
    """Plays the root LM: it uses the history, and the functions of earlier calls."""
    if "How long" in task.variables_info:
        yield Action("They: the sections of the last answer.", MEASURE)
    elif "those" in task.variables_info:
        yield Action("Those: the sections of the last answer. `having` is still there.", NARROW)
    else:
        yield Action("Search, and keep the function for later.", SEARCH)


def main() -> None:
    """Asks the questions in one session."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--ask", action="store_true", help="read questions from stdin")
    options = parser.parse_args()
    models = choose_models(root, rules([], default="?"))
    rlm = dspy_rlm.RLM(Talk, sub_lm=models.sub, max_llm_calls=20)
    history = dspy.History(messages=[])
    with dspy.context(lm=models.root), rlm.session(manual=dict(manual)) as talk:
        for question in (line.strip() for line in sys.stdin) if options.ask else QUESTIONS:
            prediction = talk(history=history, question=question)
            print(">", question)
            print(prediction.answer)
            said = {
                "question": question,
                "answer": prediction.answer,
                "sections": prediction.sections,
            }
            history = dspy.History(messages=[*history.messages, said])
    if models.scripted and not options.ask:
        lengths = sum(len(manual[title]) for title in history.messages[1]["sections"])
        assert history.messages[-1]["answer"] == f"{lengths} characters"


if __name__ == "__main__":
    main()
