"""The interpreter's hooks, put back after a cell has changed them."""

from __future__ import annotations

import codecs
import copyreg
import sys
import threading

import pytest

from sandbox_runtime.guest.integrity.hooks import Hooks, first_in


@pytest.fixture
def hooks(monkeypatch):
    """Hooks as they are now. What a test changes is put back by it, or after it."""
    for name in ("meta_path", "path_hooks", "path"):
        monkeypatch.setattr(sys, name, list(getattr(sys, name)))
    return Hooks()


class Finder:
    """A finder that finds no module."""

    @staticmethod
    def find_spec(*_):
        """Finds nothing."""


class TestFinders:
    """Finders of modules: ours come first, those that a library adds stay behind them."""

    @pytest.mark.parametrize(
        ("name", "added"), [("meta_path", Finder()), ("path_hooks", Finder()), ("path", "/other")]
    )
    def test_what_is_put_before_ours(self, hooks, name, added):
        """Entries that a cell puts before the original ones are moved behind them."""
        own = list(getattr(sys, name))

        getattr(sys, name).insert(0, added)
        hooks.restore()

        assert getattr(sys, name) == [*own, added]

    @pytest.mark.parametrize("name", ["meta_path", "path_hooks", "path"])
    @pytest.mark.parametrize("other", [[], None, ["other"]], ids=["empty", "none", "another"])
    def test_another_list(self, hooks, name, other):
        """Ours is back, with what the other had."""
        list_, own = getattr(sys, name), list(getattr(sys, name))

        setattr(sys, name, other)
        hooks.restore()

        assert getattr(sys, name) is list_
        assert getattr(sys, name) == [*own, *(other or ())]

    def test_folders_that_are_no_plain_text(self, hooks):
        """They go: importing would ask them."""

        class Folder(str):
            __slots__ = ()

        own = list(sys.path)
        sys.path += [Folder("/other"), None, "/another"]

        hooks.restore()

        assert sys.path == [*own, "/another"]

    def test_finders_of_folders(self, hooks, monkeypatch):
        """They are made anew when they are needed, in the table that importing had."""
        table = sys.path_importer_cache
        monkeypatch.setattr(sys, "path_importer_cache", {"/other": Finder()})
        table["/other"] = Finder()

        hooks.restore()

        assert sys.path_importer_cache is table
        assert "/other" not in table

    def test_entries_with_a_mind_of_their_own(self):
        """Entries are compared by identity, so their own `__eq__` is never called."""

        class Equal:
            def __eq__(self, other):
                raise ValueError("compared")

            __hash__ = None

        odd, own = Equal(), [Equal(), Equal()]
        now = [odd, own[1]]

        first_in(now, own)

        assert [id(one) for one in now] == [id(one) for one in (*own, odd)]


class TestFunctions:
    """Functions that Python calls by itself."""

    @pytest.mark.parametrize("name", ["excepthook", "displayhook", "unraisablehook", "settrace"])
    def test_those_of_sys(self, hooks, monkeypatch, name):
        """They are what they were."""
        own = getattr(sys, name)
        monkeypatch.setattr(sys, name, print)

        hooks.restore()

        assert getattr(sys, name) is own

    @pytest.mark.parametrize("name", ["excepthook", "_trace_hook", "_profile_hook"])
    def test_those_of_threads(self, hooks, monkeypatch, name):
        """Each new thread has those that there were."""
        own = getattr(threading, name)
        monkeypatch.setattr(threading, name, print)

        hooks.restore()

        assert getattr(threading, name) is own

    def test_what_pickles_a_class(self, hooks, monkeypatch):
        """Entries that a cell adds for its own classes stay."""

        class Own:
            pass

        monkeypatch.setitem(copyreg.dispatch_table, complex, print)
        monkeypatch.setitem(copyreg.dispatch_table, Own, print)

        hooks.restore()

        assert copyreg.dispatch_table[complex] is copyreg.pickle_complex
        assert copyreg.dispatch_table[Own] is print

    def test_what_is_only_the_interpreters_own(self):
        """Handlers of encoding errors are put back where nothing but cells runs as well."""
        own = codecs.lookup_error("strict")
        codecs_of_tests = Hooks(whole=True)
        codecs.register_error("strict", print)

        codecs_of_tests.restore()

        assert codecs.lookup_error("strict") is own
