"""Test RLM programs without an LM: policies, rule-based sub-LMs, and a server that plays them.

A policy is a Python generator that plays the root LM. It reads the output in the actual
prompt and replies with real code; the program reaches it through `dspy.LM` and HTTP:

    def find(task: Task) -> Generator[Action, Observation, None]:
        seen = yield Action("How many lines are there?", "print(len(logs.splitlines()))")
        yield Action("That is the answer.", f"SUBMIT(count={int(seen.output)})")

    with PolicyServer({"root": policy(find), "sub": rules([(r"ERROR", "yes")], "no")}) as server:
        dspy.configure(lm=server.lm("root"))
        rlm = RLM("logs -> count: int", sub_lm=server.lm("sub"))
        assert rlm(logs=text).count == 3

This is a scripted policy, not a language model: it demonstrates the engine and never accuracy.
"""

from dspy_rlm.testing.chat import Called, ChatRequest, Counted, Message
from dspy_rlm.testing.faults import Fault
from dspy_rlm.testing.history import Action, HistoryError, Observation
from dspy_rlm.testing.models import Models, choose_models
from dspy_rlm.testing.players import NoPlayerError, Player, Predicate, asks_for, fields, route
from dspy_rlm.testing.policies import Move, Policy, Raw, Task, policy, scripted
from dspy_rlm.testing.prompts import PromptError
from dspy_rlm.testing.rules import Rule, rules
from dspy_rlm.testing.server import Exchange, PolicyServer

__all__ = [
    "Action",
    "Called",
    "ChatRequest",
    "Counted",
    "Exchange",
    "Fault",
    "HistoryError",
    "Message",
    "Models",
    "Move",
    "NoPlayerError",
    "Observation",
    "Player",
    "Policy",
    "PolicyServer",
    "Predicate",
    "PromptError",
    "Raw",
    "Rule",
    "Task",
    "asks_for",
    "choose_models",
    "fields",
    "policy",
    "route",
    "rules",
    "scripted",
]
