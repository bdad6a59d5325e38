"""Waits for the event loop's tasks, and cancels those that outlive their cell."""

from __future__ import annotations

import asyncio

# By name: a cell that replaces them in their modules does not replace them here.
from asyncio import Future, InvalidStateError, sleep
from asyncio import all_tasks as tasks_of_loop
from asyncio import current_task as task_of_loop
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any, TypeVar

T = TypeVar("T")

# A task that outlives its cell gets this many iterations of the loop to handle its cancellation.
CANCEL_TURNS = 3


async def settled(
    work: Awaitable[Any], before: Callable[[], None]
) -> tuple[Any, BaseException | None]:
    """Calls `before`, then returns the value of an awaitable, or the exception that it raised."""
    try:
        before()
    except BaseException as error:  # noqa: BLE001 - as below
        if type(work) is CoroutineType:
            work.close()
        return None, error
    try:
        return await work, None
    except BaseException as error:  # noqa: BLE001 - the waiting code raises it again
        return None, error


async def cancel_all(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancels tasks, and gives them a few iterations of the loop to handle it."""
    for task in tasks:
        task.cancel()
    for _ in range(CANCEL_TURNS):
        await sleep(0)


def all_tasks() -> set[asyncio.Task[Any]]:
    """Returns the tasks of the running loop; none if no loop runs."""
    try:
        return tasks_of_loop()
    except RuntimeError:  # no loop runs
        return set()


def current_task() -> asyncio.Task[Any] | None:
    """Returns the task that is running, if any."""
    try:
        return task_of_loop()
    except RuntimeError:  # no loop runs
        return None


def resolve(future: Future[T], value: T) -> bool:
    """Sets the result of a future; returns False if it is done. A signal may cancel it at any point, also in here."""
    if future.done():
        return False
    try:
        future.set_result(value)
    except InvalidStateError:
        return False
    return True


def not_started(task: asyncio.Task[Any]) -> bool:
    """Returns whether the task of a wait has not started yet: once it does, it checks for a stop itself."""
    work = task.get_coro()
    return (
        type(work) is CoroutineType
        and work.cr_code is settled.__code__
        and work.cr_frame is not None
        and not (work.cr_suspended or work.cr_running)
    )


def settles(task: asyncio.Task[Any]) -> bool:
    """Returns whether a task only waits for what a suspended stack waits for."""
    work = task.get_coro()
    return type(work) is CoroutineType and work.cr_code is settled.__code__
