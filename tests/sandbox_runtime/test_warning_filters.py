"""The filters of warnings, put back after a cell has changed them; see `guest/integrity/warning_filters.py`."""

from __future__ import annotations

import re
import warnings

import pytest

from sandbox_runtime.guest.integrity.warning_filters import WarningFilters, is_plain


@pytest.fixture
def filters():
    """Filters as they are now. What a test changes is put back after it."""
    with warnings.catch_warnings():
        yield WarningFilters()


class Text(str):
    """A text whose methods could be those of a cell."""

    __slots__ = ()


class Number(int):
    """A number whose methods could be those of a cell."""


class Meta(type):
    """A class of classes whose methods could be those of a cell."""


class Other(Warning, metaclass=Meta):
    """A category that decides itself what it comprises."""


class Own(Warning):
    """A category as libraries and cells define it."""


class Pattern:
    """An object in place of a pattern."""

    @staticmethod
    def match(_):
        """Matches anything."""
        return True


PLAIN = (
    ("ignore", None, Warning, None, 0),
    ("error", re.compile("text"), Own, re.compile("module"), 3),
    ("default", None, DeprecationWarning, "__main__", 0),
)


@pytest.mark.parametrize("entry", PLAIN, ids=("ignore", "error", "default"))
def test_plain_filters(entry):
    """The module's functions add such filters, and comparing them runs no code of a cell."""
    assert is_plain(entry)


@pytest.mark.parametrize(
    "entry",
    [
        ["ignore", None, Warning, None, 0],
        ("ignore", None, Warning, None),
        (Text("ignore"), None, Warning, None, 0),
        ("unknown", None, Warning, None, 0),
        ("ignore", Pattern(), Warning, None, 0),
        ("ignore", Text("text"), Warning, None, 0),
        ("ignore", re.compile(b"text"), Warning, None, 0),
        ("ignore", None, Other, None, 0),
        ("ignore", None, Other("an object"), None, 0),
        ("ignore", None, Warning, Pattern(), 0),
        ("ignore", None, Warning, None, Number()),
        ("ignore", None, Warning, None, -1),
        ("ignore", None, Warning, None, 2**40),
    ],
    ids=(
        *("a list", "too few parts", "an own text", "an unknown action", "an own message"),
        *("a message of an own class", "a pattern of bytes", "a class of classes", "an object"),
        *("an own module", "an own line", "a negative line", "a large line"),
    ),
)
def test_other_filters(entry):
    """A filter with methods of its own, or that makes each comparison fail, is not plain."""
    assert not is_plain(entry)


class TestRestoring:
    """What is plain stays; anything else goes."""

    def test_nothing_has_changed(self, filters):
        """The list is the same, with the same entries."""
        before, entries = warnings.filters, list(warnings.filters)

        filters.restore([])

        assert warnings.filters is before
        assert list(warnings.filters) == entries

    def test_filters_that_a_cell_adds(self, filters):
        """Plain ones go on to apply; what is dropped is kept alive."""
        own, odd, kept = list(warnings.filters), ("always", Pattern(), Warning, None, 0), []
        warnings.filters[:0] = [odd, *PLAIN]

        filters.restore(kept)

        assert list(warnings.filters) == [*PLAIN, *own]
        assert any(one is odd for one in kept)

    def test_another_list(self, filters):
        """The original list is back, with what the other had, unless that was no list at all."""
        own = warnings.filters
        warnings.filters = [*PLAIN]
        filters.restore([])
        assert warnings.filters is own
        assert list(own) == [*PLAIN]

        warnings.filters = ()
        filters.restore([])
        assert warnings.filters is own

    def test_what_else_the_module_asks(self, filters, monkeypatch):
        """The default action, and the record of warnings that were seen, are the original ones; that is empty."""
        action, seen = warnings.defaultaction, warnings.onceregistry
        monkeypatch.setattr(warnings, "defaultaction", Text("ignore"))
        monkeypatch.setattr(warnings, "onceregistry", {})
        seen["a key"] = 1

        filters.restore([])

        assert warnings.defaultaction is action
        assert warnings.onceregistry is seen
        assert not seen
