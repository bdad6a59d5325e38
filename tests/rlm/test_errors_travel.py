"""Every public exception crosses to another process with its facts: one that cannot be unpickled breaks the caller's pool."""

from __future__ import annotations

import concurrent.futures
import copy
import importlib
import inspect
import multiprocessing
import pickle
import traceback

import dspy
import pytest

from dspy_rlm.dspy_bridge.traces import RunDiedError, RunExhaustedDiedError
from dspy_rlm.errors import RunExhaustedError, RunFailedError
from dspy_rlm.reports.report import RunReport

MODULES = (
    "dspy_rlm",
    "dspy_rlm.errors",
    "dspy_rlm.journal",
    "dspy_rlm.dspy_bridge.traces",
    "sandbox_runtime",
)


FACTS = {"run": RunReport("failed", "X", (), 0, 1.0), "signature": None}


def public_errors():
    """Returns the exception classes of the public modules, each once."""
    found = {}
    for name in MODULES:
        module = importlib.import_module(name)
        for attribute in {*vars(module), *getattr(module, "__all__", ())}:
            value = getattr(module, attribute)
            if inspect.isclass(value) and issubclass(value, BaseException):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    ours = ("dspy_rlm", "sandbox_runtime")
    return [cls for name, cls in sorted(found.items()) if name.partition(".")[0] in ours]


def instance(cls):
    """Returns an exception with a value for each argument that it needs."""
    arguments, named = [], {}
    for parameter in list(inspect.signature(cls.__init__).parameters.values())[1:]:
        if parameter.default is not parameter.empty or parameter.kind in (
            parameter.VAR_POSITIONAL,
            parameter.VAR_KEYWORD,
        ):
            continue
        value = FACTS.get(parameter.name, "fact")
        if parameter.kind is parameter.KEYWORD_ONLY:
            named[parameter.name] = value
        else:
            arguments.append(value)
    return cls(*arguments, **named) if arguments or named else cls("fact")


def raising(pickled):
    """Raises an exception, in a worker."""
    raise pickle.loads(pickled)


def same(one, other):
    """Returns whether two exceptions say the same."""
    return type(one) is type(other) and str(one) == str(other) and vars(one) == vars(other)


@pytest.mark.parametrize("cls", public_errors(), ids=lambda cls: cls.__name__)
def test_an_error_is_unpickled_as_it_was(cls):
    """With its message and its attributes."""
    error = instance(cls)

    assert same(pickle.loads(pickle.dumps(error)), error)


def test_the_error_of_a_failed_run_travels_without_its_signature():
    """A signature that was written as a string is a class that no other process can import."""
    report = RunReport("failed", "X", (), 0, 1.0)
    error = RunDiedError("m", run=report, signature=dspy.Signature("a -> b"))

    arrived = pickle.loads(pickle.dumps(error))

    assert (type(arrived), str(arrived), arrived.run) == (RunDiedError, "m", report)
    assert arrived.signature is None
    assert error.signature is not None


@pytest.mark.parametrize(
    ("cls", "public"), [(RunDiedError, RunFailedError), (RunExhaustedDiedError, RunExhaustedError)]
)
def test_the_error_of_a_failed_run_has_the_name_that_is_documented(cls, public):
    """Tracebacks and reports name the class that a program catches; copies and pickles are of the class that DSPy needs."""
    report = RunReport("failed", "X", (), 0, 1.0)
    error = cls("m", run=report, signature=None)
    error.limit = "max_iterations"

    shown = "".join(traceback.format_exception_only(error))
    assert shown == f"dspy_rlm.errors.{public.__name__}: m\n"
    for arrived in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(arrived) is cls
        assert same(arrived, error)


@pytest.mark.nightly
def test_a_pool_of_processes_survives_every_error():
    """Each is the exception of its future, and the pool goes on."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        for cls in public_errors():
            future = pool.submit(raising, pickle.dumps(instance(cls)))
            error = future.exception(120)
            assert type(error) is cls
        assert pool.submit(abs, -1).result(60) == 1
