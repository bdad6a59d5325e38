"""`choose_models`: real models if the environment names them, else scripted ones and a banner."""

from __future__ import annotations

import pytest

from dspy_rlm.testing import Action, Fault, choose_models, rules, scripted

ROOT = scripted(Action("", "SUBMIT(1)"))


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    for name in ("DSPY_RLM_MODEL", "DSPY_RLM_SUB_MODEL", "DSPY_RLM_API_BASE"):
        monkeypatch.delenv(name, raising=False)


def test_scripted_models_say_what_they_are(capsys):
    """Without a setting, a server plays both models, and a banner names no language model."""
    lms = choose_models(ROOT, rules([], "yes"))

    assert lms.scripted
    assert lms.sub("Is it?") == ["yes"]
    assert "no language models" in capsys.readouterr().err
    lms.server.close()


def test_one_player_can_play_both(capsys):
    """Without a player of its own, the sub-LM is that of the root; a quiet start has no banner."""
    lms = choose_models(rules([], "both"), quiet=True, faults={"sub": Fault(status=400)})

    assert lms.root("x") == ["both"]
    with pytest.raises(Exception, match="fail"):
        lms.sub("x")
    assert capsys.readouterr().err == ""
    lms.server.close()


def test_the_environment_names_real_models(monkeypatch, capsys):
    """The names are those of the command line's settings; the sub-LM is the root's model if it has none of its own."""
    monkeypatch.setenv("DSPY_RLM_MODEL", "openai/large")
    monkeypatch.setenv("DSPY_RLM_API_BASE", "http://127.0.0.1:9/v1")

    lms = choose_models(ROOT)

    assert not lms.scripted
    assert (lms.root.model, lms.sub.model) == ("openai/large", "openai/large")
    assert lms.root.kwargs["api_base"] == "http://127.0.0.1:9/v1"
    assert "openai/large" in capsys.readouterr().err
    monkeypatch.setenv("DSPY_RLM_SUB_MODEL", "openai/small")
    assert choose_models(ROOT).sub.model == "openai/small"


def test_a_lesson_can_insist_on_its_script(monkeypatch, capsys):
    """With `always_scripted` the environment does not count, and the banner does not offer to switch."""
    monkeypatch.setenv("DSPY_RLM_MODEL", "openai/large")

    lms = choose_models(ROOT, always_scripted=True)

    assert lms.scripted
    assert "DSPY_RLM_MODEL" not in capsys.readouterr().err
    lms.server.close()
