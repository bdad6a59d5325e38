"""Short examples for the reference, by public name. Those in `RUN` are run by a nightly test, all are compiled on each push.

An example assumes `import dspy, dspy_rlm`; `rlm` is an RLM of the reader.
"""

from __future__ import annotations

from collections.abc import Mapping

RUN: Mapping[str, str] = {
    "dspy_rlm.RLM": """\
from dspy_rlm.testing import Action, PolicyServer, scripted

with PolicyServer({"root": scripted(Action("", "SUBMIT(words=len(text.split()))"))}) as server:
    rlm = dspy_rlm.RLM("text -> words: int", max_iterations=5, max_cost=None)
    with dspy.context(lm=server.lm("root")):
        assert rlm(text="one two three").words == 3""",
    "dspy_rlm.TextStream": """\
stream = dspy_rlm.TextStream((f"line {n}\\n" for n in range(3)), name="rows")
assert stream.name == "rows"  # read once, as far as cells read it""",
    "dspy_rlm.Limits": """\
limits = dspy_rlm.Limits(cell_seconds=10, memory_bytes=2**30)  # seconds, bytes
rlm = dspy_rlm.RLM("text -> answer", limits=limits)""",
    "dspy_rlm.ValueType": """\
class Money:
    def __init__(self, cents: int):
        self.cents = cents


rule = dspy_rlm.ValueType(Money, to_plain=lambda money: money.cents, from_plain=Money)
rlm = dspy_rlm.RLM("prices -> total: int", types=[rule])""",
    "dspy_rlm.Quote": """\
contract = "The term is two years."
quote = dspy_rlm.Quote(text="two years").located(contract=contract)
assert (quote.start, quote.end) == (12, 21)  # characters""",
    "dspy_rlm.InputError": """\
try:
    dspy_rlm.RLM("pages: list[str] -> answer")(pages=7)
except dspy_rlm.InputError as error:
    assert "pages" in str(error)  # before anything is spent""",
    "dspy_rlm.SignatureError": """\
try:
    dspy_rlm.RLM("text -> answer", max_iterations=0)
except dspy_rlm.SignatureError as error:
    assert "max_iterations" in str(error)""",
    "sandbox_runtime.open_session": """\
from sandbox_runtime import Completed, open_session

with open_session() as session:
    session.assign("logs", "a\\nb")
    result = session.run_cell("len(logs.splitlines())")
    assert isinstance(result, Completed)
    assert result.output.strip() == "2\"""",
    "sandbox_runtime.Failed": """\
from sandbox_runtime import Failed, open_session

with open_session() as session:
    result = session.run_cell("1 / 0")
    assert isinstance(result, Failed)
    assert result.error_type == "ZeroDivisionError\"""",
}

COMPILED: Mapping[str, str] = {
    "dspy_rlm.configure": """\
dspy_rlm.configure(journal="runs/", live=True)  # for all RLMs of the process""",
    "dspy_rlm.install": """\
dspy_rlm.install()  # dspy.RLM is ours from here on
dspy_rlm.uninstall()""",
    "dspy_rlm.TextFile": """\
rlm(log=dspy_rlm.TextFile("/var/log/huge.log"), question="Who broke the build?")""",
    "dspy_rlm.Directory": """\
rlm(code=dspy_rlm.Directory("src", pattern="**/*.py"), question="Where is the cache cleared?")""",
    "dspy_rlm.Pool": """\
with dspy_rlm.Pool(4, max_sessions=16) as pool:  # four warm sandboxes, sixteen at most
    rlm = dspy_rlm.RLM("text -> answer", pool=pool)""",
    "dspy_rlm.SandboxInterpreter": """\
rlm = dspy.RLM("text -> answer", interpreter_factory=dspy_rlm.SandboxInterpreter)""",
    "dspy_rlm.MCP": """\
shop = dspy_rlm.MCP(["python", "shop_server.py"], prefix="shop")
rlm = dspy_rlm.RLM("question -> answer", tools=[shop])""",
    "dspy_rlm.replay": """\
assert dspy_rlm.replay("runs/monday.jsonl").same  # no model is asked""",
    "dspy_rlm.fork": """\
other = dspy_rlm.fork("runs/monday.jsonl", step=3, rlm=rlm, edit="rows = rows[:10]")""",
    "dspy_rlm.branches": """\
best = dspy_rlm.branches("runs/monday.jsonl", step=3, k=5, rlm=rlm)
print(best.prediction, best.votes)""",
    "dspy_rlm.open_repl": """\
with dspy_rlm.open_repl("runs/monday.jsonl", step=3) as repl:
    print(repl.variables())""",
    "dspy_rlm.RunFailedError": """\
try:
    prediction = rlm(text="...")
except dspy_rlm.RunFailedError as error:
    print(error.run.stopped_by, error.run.partial_outputs, error.run.cost)  # US dollars""",
    "dspy_rlm.RunPausedError": """\
try:
    prediction = rlm(text="...")
except dspy_rlm.RunPausedError as paused:
    prediction = rlm.resume(paused.run.journal)  # when the LM answers again""",
}

EXAMPLES: Mapping[str, str] = {**RUN, **COMPILED}
