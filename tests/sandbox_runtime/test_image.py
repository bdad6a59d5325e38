"""The record of the harness in an image: it holds in every interpreter that is started from the image.

Otherwise each start would work all of it out anew, which takes longer than the start itself.
"""

from __future__ import annotations

import json
from array import array

import pytest

from sandbox_runtime import Limits, resolve_packages
from sandbox_runtime.engine.assets import split_image
from sandbox_runtime.open import ready_engine
from sandbox_runtime.packages.store import IMAGE

# The addresses of the words of the harness now, and their values.
LOOK = """
import json
from sandbox_runtime.guest import entry
from sandbox_runtime.guest.integrity.object_memory import read
from array import array

found = array("I", entry.harness().locate())
SUBMIT(json.dumps([list(found), [read(address) for address in found]]))
"""


def saved_words(head):
    """The words that are known with a head: value by address."""
    size = int(array("d", bytes(head[:16]))[1])
    words = array("I", bytes(head[16 : 16 + size]))
    return {4 * place: value for place, value in zip(words[::2], words[1::2], strict=True)}


def words_in(session):
    """The same, worked out in the sandbox."""
    addresses, values = json.loads(session.run_cell(LOOK).outputs["words"])
    return dict(zip(addresses, values, strict=True))


@pytest.fixture
def start(opened):
    """Opens a session that can say many numbers."""

    def start(**settings):
        limits = Limits(output_chars=50_000, **settings.pop("limits", {}))
        return opened(limits=limits, outputs={"words": "str"}, **settings)

    return start


def test_a_session_has_the_words_of_its_image(start):
    """Nothing that happens from the image to the first cell moves or changes them."""
    saved = saved_words((ready_engine().folder / "boot.head").read_bytes())

    assert len(saved) > 10_000
    assert words_in(start()) == saved


def test_so_has_one_that_is_restored(start):
    """The words are those of when it was saved, with what cells have added meanwhile."""
    session = start()
    session.run_cell(
        "\n".join(f"import sandbox_runtime; sandbox_runtime.n{n} = 1" for n in range(9))
    )
    session.run_cell("import sandbox_runtime.guest.driver as b\nb.compile_cell = None")
    session.run_cell("import json, asyncio, string, secrets, sqlite3")
    checkpoint = session.checkpoint()

    assert words_in(start(restore=checkpoint)) == saved_words(checkpoint.files["boot.head"])


@pytest.mark.nightly  # builds an image; a session with packages uses the same code
def test_so_has_one_with_packages(start, thing):
    """Its image is one of its own, in which cells have imported the packages."""
    session = start(packages=[thing])
    [image] = resolve_packages([thing]).folder.glob(f"*{IMAGE}")
    head = split_image(image.read_bytes())["boot.head"]

    assert words_in(session) == saved_words(head)


def test_the_settings_of_a_session_are_put_back_to_its_own(opened):
    """Not to those of the image, which is older."""
    session = opened(limits=Limits(output_chars=50_000))
    session.run_cell("import sandbox_runtime.guest.driver as b\nb.compile_cell = None")

    assert session.run_cell("print('x' * 40_000)").output == "x" * 40_000 + "\n"
