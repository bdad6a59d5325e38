"""Packages in an RLM's REPL. Resolving them is `tests/sandbox_runtime/test_packages.py`."""

from __future__ import annotations

import copy

import pytest

from dspy_rlm import RLM, Limits, PackageError, Pool, SandboxInterpreter
from dspy_rlm.testing import fields
from sandbox_runtime import resolve_packages

SHORTEST = "import networkx as nx\nSUBMIT(nx.shortest_path(nx.path_graph(n), 0, n - 1))"


class TestPackages:
    def test_the_code_of_a_run_imports_them(self, play):
        """The packages can be imported in the REPL, and the prompt says so."""
        rlm, server = play("n: int -> path: list[int]", SHORTEST, packages=["networkx"])

        assert rlm(n=3).path == [0, 1, 2]
        assert "standard library and `networkx`;" in str(server.requests[0])

    @pytest.mark.nightly  # `test_lock_files.py` has the lock files
    def test_those_of_a_lock_file(self, play, tmp_path):
        """A path of a lock file is accepted in place of names."""
        lock = tmp_path / "sandbox.txt"
        lock.write_text(resolve_packages(["networkx"]).lock())

        rlm, server = play("n: int -> path: list[int]", SHORTEST, packages=lock)

        assert rlm(n=3).path == [0, 1, 2]
        assert "standard library and `networkx`;" in str(server.requests[0])

    def test_a_copy_of_the_module_has_them(self, play):
        """A deep copy, as optimizers make it, has the same packages."""
        rlm, _ = play("n: int -> path: list[int]", SHORTEST, packages=["networkx"])

        assert copy.deepcopy(rlm)(n=2).path == [0, 1]

    def test_those_of_its_pool(self, play):
        """A pool that was made for them serves, with its limits too, unless the RLM has its own."""
        pool = Pool(1, packages=["networkx"], limits=Limits(memory_bytes=2**29, cell_seconds=7))
        rlm, server = play("n: int -> path: list[int]", SHORTEST, pool=pool)
        try:
            assert rlm(n=3).path == [0, 1, 2]
            assert "standard library and `networkx`;" in str(server.requests[0])
            assert (rlm.limits.memory_bytes, rlm.limits.cell_seconds) == (2**29, 7)
            own = RLM("a -> b", pool=pool, packages=[], limits=Limits(cell_seconds=5))
            assert (own.packages, own.limits.cell_seconds) == (None, 5)
        finally:
            pool.close()

    @pytest.mark.nightly  # downloads Pydantic for the sandbox
    def test_a_pydantic_model_of_a_cell_is_a_signature(self, play):
        """A Pydantic model of a cell is a signature, with descriptions and bounds, and the result is its instance."""
        rlm, server = play(
            "q -> answer: list",
            "from pydantic import BaseModel, Field\n"
            "class Item(BaseModel):\n    what: str = Field(description='the thing')\n"
            "    price: float = Field(ge=0)\n"
            "class Bill(BaseModel):\n    items: list[Item]\n    note: str | None = None\n",
            "b = predict(Bill, text=q)\n"
            "SUBMIT([type(b) is Bill, type(b.items[0]) is Item, b.items[0].price, b.note])",
            sub=fields(lambda _: {"items": '[{"what": "tea", "price": 3}]', "note": "n"}),
            packages=["pydantic"],
        )

        assert rlm(q="?").answer == [True, True, 3.0, "n"]
        system = server.requests_to("sub")[0].messages[0].text
        assert '"minimum": 0' in system
        assert "the thing" in system

    @pytest.mark.parametrize(
        "make", [SandboxInterpreter, lambda **options: RLM("a -> b", **options)]
    )
    def test_what_cannot_be_had_fails_at_construction(self, make):
        """An unavailable package is refused by the constructor, with the reason."""
        with pytest.raises(PackageError, match="'two words' is not a requirement"):
            make(packages=["two words"])

    def test_under_dspys_interpreter_protocol(self, fresh):
        """DSPy's own modules get the same packages."""
        with SandboxInterpreter(packages=["networkx"], pool=fresh) as interpreter:
            assert interpreter.execute("import networkx as nx\nlen(nx.path_graph(3))") == 3
