"""Uses of the public API that a type checker must accept or refuse, as a user's program has them.

Not run: `test_typing.py` lets type checkers read it. A line that must be refused says which rule.
"""

import dspy

import dspy_rlm
from dspy_rlm import RLM, Limits, Pool
from sandbox_runtime import Completed, Failed, Session, Submitted, open_session


def search(query: str) -> list[str]:
    """A tool."""
    return [query]


class Answer(dspy.Signature):
    """Answers a question."""


rlm = RLM("logs, question -> answer: str", max_iterations=5, tools=[search], max_cost=0.5)
iterations: int = rlm.max_iterations
limits: Limits = rlm.limits
prediction = rlm(logs="...", question="Who?")
ended: dspy_rlm.RunResult = rlm.run(logs="...", question="Who?")
pool = Pool(2, limits=Limits(cell_seconds=10))
RLM(Answer, pool=pool, sub_lm={"mini": dspy.LM("openai/mini")})
interpreter = dspy_rlm.SandboxInterpreter()

with open_session(limits=limits, tools={"search": search}) as session:
    checked: Session = session
    result = session.run_cell("1 + 1")
    match result:
        case Completed(output=output) | Submitted(output=output):
            shown: str = output
        case Failed(message=message):
            shown = message

RLM("a -> b", max_iterations="many")  # refused: arg-type
RLM("a -> b", on_exhausted="stop")  # refused: arg-type
RLM("a -> b", max_itterations=5)  # refused: call-arg
Limits(cell_seconds="long")  # refused: arg-type
session.run_cell(1)  # refused: arg-type
