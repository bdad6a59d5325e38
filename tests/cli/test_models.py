"""`dspy-rlm models` and the model's part of `dspy-rlm doctor`: facts with their sources, and trials that say their price first."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from command_line import Run

from dspy_rlm.cli.demo.search import players
from dspy_rlm.cli.models.facts import Fact, ModelFacts
from dspy_rlm.cli.models.server import _windows, listed_at
from dspy_rlm.cli.models.trial import try_model
from dspy_rlm.testing import Fault, PolicyServer


@pytest.fixture
def policies() -> Iterator[PolicyServer]:
    """The server of `serve-policy`."""
    with PolicyServer(players()) as server:
        yield server


def facts(model: str, api_base: str | None = None, **more: object) -> ModelFacts:
    """Returns facts as `models` finds them."""
    unknown = Fact(None, "unknown")
    parts = {"context": unknown, "reply": unknown, "price": unknown, "key_is_set": False, **more}
    return ModelFacts("root", model, "argument", api_base, key_variable="OPENAI_API_KEY", **parts)  # type: ignore[arg-type]


class TestModels:
    def test_facts_have_sources(self, run_here: Run):
        """A model of DSPy's table has window, reply and price; a flag's price comes before that of the table."""
        done = run_here(
            "models", "--json", "--model", "openai/gpt-4o-mini", "--sub-model", "a=openai/gpt-4o-mini",
            "--sub-model", "b=openai/mine", "--price", "openai/mine=1,2",
        )  # fmt: skip
        root, _, mine = json.loads(done.stdout)["models"]

        assert (root["role"], mine["role"]) == ("root", "sub b")
        assert root["source"] == "flag --model"
        assert root["context"] == {"value": 128_000, "source": "DSPy's table"}
        assert root["price"] == {"value": [0.15, 0.6], "source": "DSPy's table"}
        assert (root["key_variable"], root["key_is_set"]) == ("OPENAI_API_KEY", False)
        assert mine["price"] == {"value": [1.0, 2.0], "source": "flag --price"}
        assert mine["context"] == {"value": None, "source": "unknown"}

    def test_the_source_of_a_model(self, run_here: Run):
        """The text names the variable; a key is never shown, only whether there is one."""
        done = run_here(
            "models",
            variables={"DSPY_RLM_MODEL": "openai/gpt-4o-mini", "OPENAI_API_KEY": "sk-123"},
        )

        assert "root: openai/gpt-4o-mini (environment DSPY_RLM_MODEL)" in done.stdout
        assert "OPENAI_API_KEY is set" in done.stdout
        assert "sk-123" not in done.stdout + done.stderr

    def test_the_list_of_a_server(self, run_here: Run, policies: PolicyServer):
        """With an address, the models of the server are named; `--offline` asks nothing. No model is called."""
        address = ["--model", "openai/root", "--api-base", policies.base_url]
        done = run_here("models", *address)

        assert f"{policies.base_url} lists root, sub." in done.stderr
        assert run_here("models", *address, "--offline").stderr == ""
        assert policies.requests == []

    def test_none_is_configured(self, run_here: Run):
        """Without a model, the error says how to configure one."""
        done = run_here("models")

        assert done.returncode == 11
        assert "No model is configured" in done.stderr

    def test_named_models(self, run_here: Run):
        """`models NAME` looks up any model."""
        done = run_here("models", "openai/gpt-4o-mini")

        assert done.stdout.startswith("named: openai/gpt-4o-mini (argument)\n")


class TestServer:
    @pytest.mark.parametrize(
        ("row", "window"),
        [
            ({"id": "m", "max_model_len": 8192}, 8192),
            ({"id": "m", "context_length": 4096}, 4096),
            ({"id": "m", "meta": {"n_ctx_train": 2048}}, 2048),
            ({"id": "m", "max_model_len": "8192"}, None),
            ({"id": "m", "max_model_len": True}, None),
            ({"id": "m"}, None),
        ],
    )
    def test_windows(self, row, window):
        """vLLM, OpenRouter and llama.cpp state the window under different names; a hostile value is none."""
        assert _windows({"data": [row, 3, {"id": ""}]}) == {"m": window}

    def test_no_server(self):
        """A server that does not answer, or not in the expected form, is reported as an error."""
        assert "refused" in listed_at("http://127.0.0.1:1/v1", None).problem
        assert listed_at("file:///etc", None).problem
        with pytest.raises(ValueError, match="not a list"):
            _windows({"data": 1})


class TestTrial:
    def test_all_is_well(self, policies: PolicyServer):
        """The price is said before the hello is sent, once."""
        said: list[tuple[str, int]] = []
        price = Fact((1.0, 2.0), "flag")
        checks = try_model(
            facts("openai/root", policies.base_url, price=price),
            hello=True,
            say=lambda text: said.append((text, len(policies.requests))),
        )

        assert [(check.name, check.ok) for check in checks] == [
            ("key", True),
            ("server", True),
            ("context", True),
            ("hello", True),
        ]
        (announced,) = [sent for text, sent in said if "That costs at most $0.0006" in text]
        assert (announced, len(policies.requests)) == (0, 1)
        assert checks[-1].detail.startswith("OK")

    def test_nothing_is_sent_without_a_hello(self, policies: PolicyServer):
        """`--no-hello` tries only what is free."""
        checks = try_model(facts("openai/root", policies.base_url), hello=False, say=lambda _: None)

        assert all(check.ok for check in checks)
        assert policies.requests == []

    @pytest.mark.parametrize(
        ("model", "fault", "name", "code", "detail"),
        [
            ("openai/other", None, "server", 20, "has no model other. It has root, sub"),
            ("openai/root", Fault(status=401, times=None), "hello", 21, "LMAuthError"),
            ("openai/root", Fault(status=500, times=None), "hello", 20, "LMServerError"),
        ],
    )
    def test_what_fails(self, policies: PolicyServer, model, fault, name, code, detail):
        """The part that fails has the reason, what to do, and the exit code of its kind."""
        if fault is not None:
            policies.fail("root", fault)
        *_, last = [
            check
            for check in try_model(facts(model, policies.base_url), hello=True, say=lambda _: None)
            if not check.ok
        ]

        assert (last.name, last.code) == (name, code)
        assert detail in last.detail
        assert last.fix

    def test_an_address_without_a_server(self):
        """An address that nobody answers is named; no hello is sent there."""
        checks = try_model(
            facts("openai/root", "http://127.0.0.1:1/v1"), hello=True, say=lambda _: None
        )

        assert [check.ok for check in checks] == [True, False, True]
        assert checks[1].code == 20


def test_doctor_with_a_model(run_here: Run, policies: PolicyServer):
    """`doctor --model --json` is the sandbox's report with the models, and fails if one of them does."""
    address = ["--api-base", policies.base_url]
    models = {"DSPY_RLM_MODEL": "openai/root", "DSPY_RLM_SUB_MODEL": "openai/missing"}
    done = run_here("doctor", "--json", *address, "--model", variables=models)
    report = json.loads(done.stdout)

    assert done.returncode == 20
    assert (report["schema"], report["ok"]) == (1, False)
    assert [check["name"] for check in report["checks"]][:2] == ["deno", "wall"]
    assert [(one["role"], one["ok"]) for one in report["models"]] == [
        ("root", True),
        ("sub", False),
    ]
    assert "Its price is unknown" in done.stderr
