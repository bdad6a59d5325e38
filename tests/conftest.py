"""Shared fixtures of all tests: the required environment, and a check that no test leaves anything running."""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator

# Otherwise DSPy downloads a price list when it is imported.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

# The sandboxes of other programs of this user must not make tests wait. Workers and child processes inherit the folder.
if "DSPY_RLM_RUNTIME_DIR" not in os.environ:
    os.environ["DSPY_RLM_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="rlm-seats-")
    atexit.register(shutil.rmtree, os.environ["DSPY_RLM_RUNTIME_DIR"], ignore_errors=True)

# A shell makes background jobs ignore it, and their child processes inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import settings
from soak import faults

from sandbox_runtime import Pool, set_default_pool

# LiteLLM calls `asyncio.get_event_loop()`, which before Python 3.14 creates a loop in the main thread that nothing
# closes, and the warning about it would fail whichever test runs next. After this call it raises instead.
asyncio.set_event_loop(None)

# An example that takes long on a loaded machine is no failure; one that hangs meets pytest's timeout.
settings.register_profile("push", deadline=None, max_examples=30)
settings.register_profile("nightly", deadline=None, max_examples=300)
settings.load_profile("push")

pytest_plugins = ["tests.object_store"]

# The selection of `addopts`, if the command line says nothing else.
WITHOUT_NIGHTLY = "not nightly"


def pytest_configure(config: pytest.Config) -> None:
    """Generates more examples if the nightly tests are selected."""
    if config.getoption("markexpr") != WITHOUT_NIGHTLY:
        settings.load_profile("nightly")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collects tests without garbage collection, and excludes what is there then from all later ones.

    Nearly all of it stays until the end, and each full collection, explicit ones included, would look at it again.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves so many cases of a test marked `sampled` as they are, and marks the others `nightly`.

    Those that stay are spread over all of them by their ids, whatever the order in which they run.
    """
    families: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("sampled"):
            families.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for family in families.values():
        family.sort(key=lambda item: item.nodeid)  # pytest-randomly may have shuffled them
        count = min(len(family), family[0].get_closest_marker("sampled").args[0])
        kept = {number * len(family) // count for number in range(count)}
        for number, item in enumerate(family):
            if number not in kept:
                item.add_marker("nightly")


@pytest.fixture(scope="session")
def deno_children() -> Callable[..., set[int]]:
    """Returns the ids of the Deno processes that are children of this process, or of another."""
    return faults.deno_children


@pytest.fixture(scope="session", autouse=True)
def _nothing_left_running() -> Iterator[None]:
    # Nothing is opened ahead for a borrower that may not come: a warm session takes 0.7 s of processor time.
    pool = Pool(0)
    set_default_pool(pool)
    yield
    set_default_pool(None)
    pool.close()
    assert faults.deno_children() == set(), "tests left sandboxes running"
