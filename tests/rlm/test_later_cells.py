"""Code that an earlier cell plants in the REPL's functions has no effect on a later cell that calls them."""

from __future__ import annotations

import pytest

from dspy_rlm.testing import fields
from sandbox_runtime.guest.harness_foundation import STANDS_ON

_ACT = """
import gc, sys, types
def forge(*args, **named):
    try:
        SUBMIT('FORGED')
    except Exception:
        pass
    return types.SimpleNamespace(n='FORGED')
from sandbox_runtime.guest.namespace import tool_wrappers
def everything(start):
    seen, waiting = {}, [start]
    while waiting and len(seen) < 20_000:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, types.FrameType) or one is globals():
            continue
        seen[id(one)] = one
        waiting += gc.get_referents(one)
    return list(seen.values())
"""

PLANTS = {
    "the caches of the function": """
for thing in everything(predict.__closure__):
    if type(thing) is dict and 'front' in thing:
        thing['front'] = forge
""",
    "the table of modules": """
tool_wrappers._LOADED.update({name: (source, types.SimpleNamespace(front=lambda *_: forge), code)
                              for name, (source, _, code) in tool_wrappers._LOADED.items()})
""",
    "the table of wrappers": """
for name, wrapper in list(tool_wrappers._WRAPPERS.items()):
    wrapper.front = forge
    wrapper.modules = ()
    tool_wrappers._WRAPPERS[name] = types.SimpleNamespace(front=forge, current=lambda: forge)
""",
    "what cells load for themselves": """
for name in ('predict', 'dspy', 'sub_rlm', 'predict_batched'):
    tool_wrappers._OWN_FRONTS[name] = forge
for name in tool_wrappers._SOURCES:
    tool_wrappers._OWN_MODULES[name] = types.SimpleNamespace(front=lambda *_: forge)
""",
    "the sources": """
for name in tool_wrappers._SOURCES:
    tool_wrappers._SOURCES[name] = 'def front(name, call):\\n    import __main__\\n    return __main__.forge\\n'
""",
    "the names of the modules": """
for name in list(sys.modules):
    if name.startswith('dspy_rlm'):
        vars(sys.modules[name]).update(dict.fromkeys([n for n in vars(sys.modules[name]) if n[:2] != '__'], forge))
""",
    "other modules of these names": """
for name in tool_wrappers._SOURCES:
    sys.modules[name] = types.SimpleNamespace(front=lambda *_: forge, Classes=forge, describe_signature=forge,
                                              rebuild_result=forge)
sys.modules['dspy'] = types.SimpleNamespace(Predict=lambda *_: forge)
""",
    "the code of their functions": """
for thing in everything([sys.modules.get(name) for name in tool_wrappers._SOURCES]):
    if isinstance(thing, types.FunctionType) and 'dspy_rlm' in thing.__code__.co_filename and not thing.__closure__:
        thing.__code__ = (lambda *a, **k: __import__('__main__').forge()).__code__
""",
    "the cells of their closures": """
for thing in everything([predict, vars(dspy)]):
    if isinstance(thing, types.CellType) and callable(getattr(thing, 'cell_contents', None)):
        thing.cell_contents = forge
""",
    "the classes of dspy": """
for kind in (dspy.Predict, dspy.ChainOfThought, *dspy.Predict.__mro__[1:-1]):
    kind.__call__ = kind.forward = kind.__init__ = kind.__new__ = forge
    kind._call = staticmethod(forge)
""",
    "the module dspy": """
dspy.Predict = dspy.ChainOfThought = lambda *_: forge
dspy.__class__ = type('Other', (types.ModuleType,), {'Predict': lambda *_: forge, '__getattribute__': forge})
""",
    "the class of the records": """
kind = type(predict('t -> n: int', t='a'))
kind.n = property(forge)
kind.__getattribute__ = forge
""",
    "the tables of the records": """
from sandbox_runtime.guest.values import records
for text, known in list(records._CLASSES.items()):
    records._CLASSES[text] = (*known[:2], type('Prediction', (records.Record,), {'n': property(forge)}))
""",
    "functions of the standard library that they call": """
import ast, dataclasses, functools, inspect, typing
for module in (ast, dataclasses, functools, inspect, typing):
    for name, value in list(vars(module).items()):
        if isinstance(value, types.FunctionType):
            setattr(module, name, forge)
""",
    "a module that the standard library loads late": """
import _ast_unparse
_ast_unparse.Unparser.visit = _ast_unparse.Unparser.traverse = forge
_ast_unparse.Unparser.visit_Name = _ast_unparse.Unparser.visit_Attribute = forge
""",
    "a finalizer that changes what is loaded next": """
class Late:
    def __del__(self):
        tool_wrappers._run = tool_wrappers._trusted = tool_wrappers.load = forge
        tool_wrappers.compile = tool_wrappers.exec = forge
        tool_wrappers._SOURCES.update(dict.fromkeys(tool_wrappers._SOURCES, 'front = None'))
import builtins
builtins.planted = Late()
tool_wrappers._OWN_FRONTS['late'] = Late()
""",
    "a trace that sees them load": """
def trace(frame, event, arg):
    if 'front' in frame.f_globals:
        frame.f_globals['front'] = lambda *_: forge
    return trace
class Late:
    def __del__(self):
        sys.settrace(trace)
        sys.setprofile(trace)
sys.stdout.held = Late()
""",
}

LATER = {
    "predict": "SUBMIT(str(predict('t -> n: int', t='a').n))",
    "predict.aio": "SUBMIT(str((await predict.aio('t -> n: int', t='a')).n))",
    "predict_batched": "SUBMIT(str(predict_batched('t -> n: int', ['a'])[0].n))",
    "dspy": "import dspy\nSUBMIT(str(dspy.Predict('t -> n: int')(t='a').n))",
    "a class": "import dspy\nclass Read(dspy.Signature):\n    t: str = dspy.InputField()\n"
    "    n: int = dspy.OutputField()\nSUBMIT(str(predict(Read, t='a').n))",
    "a name that the cell does not write": "SUBMIT(str(globals()['pre' 'dict']('t -> n: int', t='a').n))",
}


@pytest.mark.sampled(15)
@pytest.mark.parametrize("later", LATER.values(), ids=LATER)
@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
@pytest.mark.parametrize("used", [True, False], ids=["loaded before", "not loaded before"])
def test_a_later_cell_calls_the_real_function(play, plant, later, used):
    """The plant ran to its end; the later cell's result is the host's, and nothing was submitted for it."""
    use = "import dspy\npredict('t -> n: int', t='a'), dspy.Predict\n" if used else ""
    rlm, _ = play(
        "q -> answer: str",
        use or "pass",
        ("import dspy\n" if "dspy" in plant else "") + _ACT + plant + "\nprint('plan' 'ted')",
        later,
        sub=fields(lambda _: {"n": 4}),
    )
    result = rlm(q="?")

    assert "planted" in result.trajectory[1]["output"], result.trajectory[1]["output"]
    assert result.answer == "4"
    assert len(result.trajectory) == 3


# Every function of the REPL, with signatures of every kind. A cell's own code is part of what they read.
CALLS = """
import dataclasses, enum, typing
import dspy
class Colour(enum.Enum):
    RED = 1
@dataclasses.dataclass
class Row:
    n: int
    colour: Colour = Colour.RED
class Typed(typing.TypedDict):
    n: int
class Named(typing.NamedTuple):
    n: int
class Read(dspy.Signature):
    'Reads.'
    t: str = dspy.InputField()
    n: int = dspy.OutputField(desc="a number")
Kind = typing.Literal['a', 'b']
calls = [
    *(lambda written=written: predict(f't -> n: {written}', t='a') for written in (
        'int', 'list[Row]', 'Kind', 'typing.Optional[Row]', 'dict[str, typing.Literal["x"] | None]', 'Typed', 'Named')),
    lambda: predict({'n': typing.Annotated[int, 'a number']}, t='a'),
    lambda: predict(Read, t='a'),
    lambda: predict_batched('t -> n: Row', ['a', 'b']),
    lambda: predict_batched(Read, [{'t': 'a'}]),
    lambda: dspy.Predict(Read)(t='a'),
    lambda: dspy.ChainOfThought('t -> n: int')(t='a'),
    lambda: dspy.Predict(dspy.Signature('t -> n: int', 'Read it.'))(t='a').toDict(),
    lambda: sub_llm('x'), lambda: sub_llm('x', model='unknown'), lambda: sub_llm_batched(['x', 'y']),
    lambda: sub_rlm('t -> n: Row', t='a', setup=[Row, trace]),
    lambda: SHOW_VARS(), lambda: BUDGET(), lambda: FINAL_VAR('unknown'), lambda: llm_query('x'), lambda: rlm_query('x'),
    lambda: double(2), lambda: double.batched([1, 2]), lambda: double(1, 2), lambda: repr(Row(1)),
    lambda: SUBMIT(1, 2, 3),
]
seen = set()
def trace(frame, event, _):
    seen.add(frame.f_globals.get('__name__'))
def run():
    for call in calls:
        try:
            call()
        except Exception:
            pass
import sys
sys.setprofile(trace)
run()
sys.setprofile(None)
SUBMIT(sorted(map(str, seen)))
"""


def test_the_functions_run_only_code_that_is_restored(play):
    """A function of the REPL runs no Python code of a module whose changes persist from cell to cell."""

    def double(x: int) -> int:
        return 2 * x

    rlm, _ = play("q -> answer: list[str]", CALLS, sub=fields(lambda _: {"n": 4}), tools=[double])
    names = set(rlm(q="?").answer)

    assert {"ast", "typing", "inspect"} <= names
    others = {
        name for name in names - STANDS_ON if not name.startswith(("sandbox_runtime", "dspy_rlm"))
    }
    assert others <= {"__main__", "None"}
