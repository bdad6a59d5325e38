"""The flags of V8: which a Deno knows, and a start without those that it does not know."""

from __future__ import annotations

import dataclasses

import pytest

from sandbox_runtime import Completed, Limits
from sandbox_runtime.engine import deno
from sandbox_runtime.engine.v8_flags import FLAGS, REQUIRED_FLAGS, TUNING_FLAGS, known, usable_flags
from sandbox_runtime.isolation.os_isolation import NO_WALL
from sandbox_runtime.open import ready_engine
from sandbox_runtime.sessions.session import Session

HELP = """\
Options:
  --stack-size (default size of stack region v8 is allowed to use (in kBytes))
        type: int  default: --stack-size=984
  --max-semi-space-size (max size of a semi-space (in MBytes))
        type: size_t  default: --max-semi-space-size=0
"""


@pytest.fixture
def engine():
    """The installed engine."""
    return ready_engine()


@pytest.fixture
def later_deno(engine, tmp_path):
    """A Deno that does not know a flag of ours, as a later version may not."""
    path = tmp_path / "deno"
    path.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f"*--v8-flags=--help*) {engine.deno} \"$@\" | grep -v -e '--min-semi-space-size' ;;\n"
        '*--min-semi-space-size*) echo "error: V8 did not recognize flag" >&2; exit 1 ;;\n'
        f'*) exec {engine.deno} "$@" ;;\n'
        "esac\n"
    )
    path.chmod(0o755)
    return path


class TestKnown:
    """The flags that a Deno has printed decide which ones are passed to it."""

    def test_one_that_is_gone(self):
        """A flag that is not among the printed ones is left out; its value does not matter."""
        assert known(("--stack-size=3900", "--gone=1", "--max-semi-space-size=1"), HELP) == (
            "--stack-size=3900",
            "--max-semi-space-size=1",
        )

    def test_part_of_a_name(self):
        """Only the whole name counts."""
        assert known(("--stack=1", "--semi-space-size=1"), HELP) == ()

    def test_no_help(self):
        """A Deno that prints no flags gets all of them: its start shows what is wrong."""
        assert known(TUNING_FLAGS, "error: no such option") == TUNING_FLAGS

    def test_the_installed_one_knows_all(self, engine):
        """The tested Deno is not asked, so it must know each of them."""
        assert usable_flags(engine.deno, engine.environment) == FLAGS


class TestLaterDeno:
    """A Deno that has dropped a flag starts sandboxes all the same."""

    def test_it_gets_the_other_flags(self, engine, later_deno):
        """Only what it does not know is left out."""
        flags = usable_flags(later_deno, engine.environment)

        assert set(FLAGS) - set(flags) == {"--min-semi-space-size=1"}

    def test_cells_run(self, engine, later_deno):
        """A session starts and runs cells. (The shell around it could not start behind the wall.)"""
        later = dataclasses.replace(engine, deno=later_deno, wall=NO_WALL)
        with Session(later, Limits()) as session:
            assert session.run_cell("1 + 1") == Completed("2\n")

    def test_a_layer_of_defence_is_never_left_out(self, engine, tmp_path):
        """A flag that a sandbox relies on is passed even if V8 does not list it."""
        path = tmp_path / "deno"
        path.write_text("#!/bin/sh\necho '  --stack-size (size)'\n")
        path.chmod(0o755)

        assert usable_flags(path, engine.environment)[: len(REQUIRED_FLAGS)] == REQUIRED_FLAGS

    def test_the_command_has_them(self, engine, later_deno):
        """The command line of a sandbox is what they are for."""
        flags = next(
            part
            for part in deno.command(later_deno, later_deno, Limits())
            if part.startswith("--v8-flags=")
        )

        assert "--min-semi-space-size" not in flags
        assert "--wasm-max-mem-pages" in flags
