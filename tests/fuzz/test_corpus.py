"""The corpus and some mutations of it raise only the expected errors, at a bounded cost."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import oracle
from .forms import FORMS
from .mutations import next_input
from .oracle import TooCostlyError, run
from .targets import CORPUS, TARGETS, seeds, values

# The number of mutations of each target in the nightly run, and how many of them measure memory too. Calls on texts and
# checkpoints open files, and signatures create classes, so they have fewer.
ROUNDS = {"frames": 3000, "values": 2000, "typed_outputs": 400, "text_calls": 60}
OTHER_ROUNDS = 200
MEMORY_EVERY = 20

# One in this many of them runs on each push.
PUSHED = 4

# The size of a form in `values`, and in the nightly run.
FORM_BYTES, LARGE_FORM_BYTES = 50_000, 200_000

CASES = [(target, name) for target in TARGETS for name in seeds(target)]


@pytest.mark.sampled(80)
@pytest.mark.parametrize(("target", "name"), CASES, ids=[f"{t}-{n}" for t, n in CASES])
def test_the_corpus(target, name):
    """Every input of the corpus is handled within the cost that its size allows."""
    run(TARGETS[target], seeds(target)[name])


def mutate(target: str, rounds: int) -> None:
    """Runs mutations of every corpus input, and of two of them joined."""
    dice = random.Random(target)
    inputs = list(seeds(target).values())
    for number in range(rounds):
        data = next_input(inputs, dice)
        run(TARGETS[target], data, memory=number % MEMORY_EVERY == 0)


@pytest.mark.parametrize("target", TARGETS)
def test_mutations(target):
    """Mutations of every corpus input, and of two of them joined, are handled."""
    mutate(target, ROUNDS.get(target, OTHER_ROUNDS) // PUSHED)


@pytest.mark.nightly
@pytest.mark.parametrize("target", TARGETS)
def test_many_mutations(target):
    """A larger number of mutations is handled too."""
    mutate(target, ROUNDS.get(target, OTHER_ROUNDS))


@pytest.mark.parametrize("target", ["frames", "values", "typed_outputs", "signatures"])
@given(data=st.binary(max_size=500))
def test_noise(target, data):
    """Random bytes are handled like any other input."""
    TARGETS[target](data)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", FORMS)
def test_forms_in_a_larger_size(name):
    """The cost of a form grows linearly with its size, not quadratically."""
    run(values, b"\x00\xff\x00".join(FORMS[name](FORM_BYTES)))


@pytest.mark.nightly
@pytest.mark.parametrize("name", FORMS)
def test_forms_in_a_very_large_size(name):
    """Each form is handled at a hundred times its size in the corpus."""
    run(values, b"\x00\xff\x00".join(FORMS[name](LARGE_FORM_BYTES)))


class TestTheOracle:
    """The oracle detects excessive costs."""

    def test_time(self, monkeypatch):
        """A target that takes longer than its input allows is a finding."""
        monkeypatch.setattr(oracle, "SECONDS", 0.1)

        def squared(data):
            sum(a == b for a in data for b in data)

        run(squared, b"x" * 10)
        with pytest.raises(TooCostlyError, match="CPU seconds"):
            run(squared, b"x" * 4_000)

    def test_memory(self):
        """A target that allocates more than its input allows is a finding."""
        with pytest.raises(TooCostlyError, match="bytes of memory"):
            run(lambda data: bytes(100_000_000), b"x")


def test_the_corpus_reaches_what_it_is_for():
    """Some frames of the corpus are valid messages and some values decode, so that deeper code is tested."""
    assert len(list((CORPUS / "frames").iterdir())) >= 15
    assert len(list((CORPUS / "values").iterdir())) >= 20
    for target in TARGETS:
        assert len(seeds(target)) >= 5


def test_the_long_running_command(tmp_path):
    """The fuzzer runs for the requested time and reports its work."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--seconds", "1", "--target", "values", "--own"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "values" in done.stdout
