"""Every callback belongs to its cell, whoever registered it and whatever calls it."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from sandbox_runtime.guest.callback_ownership import Ownership


@pytest.fixture
def ownership():
    """One that no cell belongs to yet; its mark is taken away again."""
    owner = Ownership()
    yield owner
    owner.end()


class TestCalls:
    """SUBMIT and tools are for the running cell."""

    def test_the_cell_itself_may_call(self, ownership):
        """As often as it likes."""
        ownership.begin()

        ownership.check("f")
        ownership.check("f")

    def test_between_cells_nobody_may(self, ownership):
        """Neither before the first nor after the last."""
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"f\(\) was called after its cell had ended"):
                ownership.check("f")
            ownership.begin()
            ownership.end()

    def test_while_it_is_paused_nobody_may(self, ownership):
        """An object that the harness replaces may have a finalizer."""
        ownership.begin()
        paused = ownership.pause()

        with pytest.raises(RuntimeError, match="after its cell had ended"):
            ownership.check("f")
        ownership.resume(paused)
        ownership.check("f")

    def test_what_an_earlier_cell_left_may_not(self, ownership):
        """It runs in the context in which it was registered."""
        ownership.begin()
        left = contextvars.copy_context()
        ownership.begin()

        with pytest.raises(RuntimeError, match="callback of an earlier cell"):
            left.run(ownership.check, "f")
        ownership.check("f")

    def test_a_context_of_its_own_is_nobodys(self, ownership):
        """Else it would be a way round the rule."""
        ownership.begin()

        with pytest.raises(RuntimeError, match="a context of its own"):
            contextvars.Context().run(ownership.check, "f")

    def test_a_mark_cannot_be_kept_for_later(self, ownership):
        """A cell can find its mark, but not that of a later cell."""
        ownership.begin()
        (mark,) = [v for v in contextvars.copy_context() if v.name == "cell"]
        stolen = mark.get()
        ownership.begin()
        left = contextvars.copy_context()
        left.run(mark.set, stolen)

        with pytest.raises(RuntimeError, match="earlier cell"):
            left.run(ownership.check, "f")

    def test_a_finalizer_in_the_collector_may_not(self, ownership):
        """Nobody can say whose garbage it is."""
        ownership.begin()
        ownership.note_collection("start", {})

        with pytest.raises(RuntimeError, match="while garbage is collected"):
            ownership.check("f")
        ownership.note_collection("stop", {})
        ownership.check("f")


class TestCallbacks:
    """The event loop runs those of the running cell."""

    def test_its_own(self, ownership):
        """The context of a callback is that of who registered it, also of a task and of a future."""
        contexts = []

        async def cell():
            ownership.begin()
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            future.add_done_callback(lambda _: contexts.append(contextvars.copy_context()))
            loop.call_soon(lambda: contexts.append(contextvars.copy_context()))

            async def work():
                contexts.append(contextvars.copy_context())

            task = asyncio.create_task(work())
            future.set_result(None)
            await task
            await asyncio.sleep(0)
            return [ownership.owns(context) for context in contexts]

        assert asyncio.run(cell()) == [True, True, True]
        ownership.begin()
        assert [ownership.owns(context) for context in contexts] == [False, False, False]

    def test_none_between_cells(self, ownership):
        """Also not those that were registered there."""
        assert not ownership.owns(contextvars.copy_context())


class TestGenerators:
    """An asynchronous generator is closed in the cell that began it."""

    def test_of_this_cell_and_of_an_earlier(self, ownership):
        """The earlier one's is not closed any more."""
        earlier, own = object(), object()
        ownership.begin()
        ownership.generator_began(earlier)
        ownership.begin()
        ownership.generator_began(own)

        assert ownership.owns_generator(own)
        assert not ownership.owns_generator(earlier)
        ownership.end()
        assert not ownership.owns_generator(own)
