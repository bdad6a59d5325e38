"""Abstract classes that decide without asking others; see `guest/integrity/abstract_classes.py`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import NoneType

import pytest

from sandbox_runtime.guest.integrity.abstract_classes import by_methods, for_notes, set_rule


def asked_by_method(cls, other):
    """Looks for a method, as the abstract classes of the standard library do."""
    return True if "work" in vars(other) else NotImplemented


@pytest.fixture
def worker():
    """A new abstract class, whose `asked` collects the classes that its subclass was asked for."""

    class Worker(ABC):
        asked: list[type] = []  # noqa: RUF012 - it is for one test

        @abstractmethod
        def work(self):
            """Works."""

    class Planted(Worker):
        @classmethod
        def __subclasshook__(cls, other):
            Worker.asked.append(other)
            return True

    Worker.planted = Planted
    return Worker


class Works:
    """A class with the method."""

    def work(self):
        """Works."""


def test_without_a_rule(worker):
    """Python asks the subclass, which can say anything."""
    assert issubclass(int, worker)
    assert worker.asked == [int]


def test_by_methods(worker):
    """What has the methods belongs to it, what has not does not, and no subclass is asked."""
    set_rule(worker, by_methods(worker, asked_by_method))

    assert issubclass(Works, worker)
    assert not issubclass(int, worker)
    assert worker.asked == []


def test_its_subclasses_have_their_own_rules(worker):
    """A rule is for one class: those that derive from it, and theirs, answer as before."""

    class Other(worker):
        pass

    set_rule(worker, by_methods(worker, asked_by_method))
    Other.register(int)

    assert issubclass(int, Other)
    assert issubclass(int, worker.planted)


def test_notes(worker):
    """A list is one, nothing is none; about other classes the subclasses are asked."""
    set_rule(worker, for_notes(worker))

    assert issubclass(list, worker)
    assert not issubclass(NoneType, worker)
    assert worker.asked == []
    assert issubclass(int, worker)
    assert worker.asked == [int]
