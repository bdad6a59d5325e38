"""`dspy-rlm config`: where each setting comes from, mistakes in files and variables, and that `ask` reads the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Run, Server

from dspy_rlm.cli.configuration.keys import BY_NAME, KEYS, NotThisKindError, from_text, from_toml
from dspy_rlm.cli.configuration.sources import settled
from dspy_rlm.cli.main import command_parser
from dspy_rlm.testing import Fault


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, run_here: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's file; not that of the person who runs the tests."""
    path = tmp_path / "user" / "config.toml"
    path.parent.mkdir()
    path.write_text("")
    monkeypatch.setenv("DSPY_RLM_CONFIG", str(path))
    return path


def project(text: str) -> None:
    """Writes the table of a project in the current folder."""
    Path("pyproject.toml").write_text(f'[project]\nname = "x"\n\n[tool.dspy-rlm]\n{text}\n')


def shown(run_here: Run, *arguments: str) -> dict[str, tuple[object, str]]:
    """Returns the value and the source of each setting."""
    done = run_here("config", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return {
        one["name"]: (one["value"], one["source"]) for one in json.loads(done.stdout)["settings"]
    }


class TestOrder:
    """Flags come before the environment, then the project, the user, and defaults."""

    def test_each_source_hides_those_below(self, run_here, monkeypatch, own_file):
        """A setting has the value of the strongest source, and the others are named with theirs."""
        own_file.write_text('model = "openai/user"\nmax_cost = 1\nmax_depth = 3\nplain = true\n')
        project('model = "openai/project"\nmax-cost = 0.5\nmax_tokens = 9')
        monkeypatch.setenv("DSPY_RLM_MODEL", "openai/environment")
        values = shown(run_here, "--model", "openai/flag")

        assert values["model"] == ("openai/flag", "flag")
        assert values["max_cost"] == (0.5, "project")
        assert values["max_tokens"] == (9, "project")
        assert values["max_depth"] == (3, "user")
        assert values["plain"] == (True, "user")
        assert values["max_iterations"] == (20, "default")
        assert shown(run_here)["model"] == ("openai/environment", "environment")
        (model,) = json.loads(run_here("config", "--json", "model").stdout)["settings"]
        assert [one["value"] for one in model["hidden"]] == [
            "openai/project",
            "openai/user",
            None,
        ]

    def test_the_project_is_the_nearest_folder_with_the_table(self, run_here, folder, monkeypatch):
        """A `pyproject.toml` without the table is passed over; paths are relative to the file."""
        project('journal = "runs"')
        (folder / "logs" / "pyproject.toml").write_text("[project]\n")
        monkeypatch.chdir(folder / "logs")

        assert shown(run_here)["journal"] == (str(folder / "runs"), "project")

    def test_text_and_one_value(self, run_here, folder):
        """As text, each line has name, value and source; a single key prints its value alone."""
        project("max_cost = 0.5")
        done = run_here("config")
        lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()}

        assert lines["max_cost"] == ["0.5", "project", str(folder / "pyproject.toml")]
        assert lines["model"] == ["-", "default"]
        assert set(lines) == set(BY_NAME)
        assert "pyproject.toml" in done.stderr
        assert run_here("config", "max-cost").stdout == "0.5\n"

    def test_the_defaults_are_those_of_an_rlm(self):
        """The defaults that `config` shows are those of an RLM without arguments."""
        from dspy_rlm import RLM

        rlm = RLM("a -> b")
        facts = {
            **vars(rlm.budget),
            **{name: getattr(rlm, name) for name in ("max_output_chars", "on_exhausted")},
        }
        for key in KEYS:
            if key.default is not None and key.name in facts:
                assert facts[key.name] == key.default, key.name

    def test_paths_of_a_file_are_beside_it(self, own_file):
        """A journal and the files of MCP servers are found from any folder."""
        own_file.write_text('journal = "runs"\nmcp = ["a.json"]\n')
        parsed = settled(command_parser().parse_args(["ask", "x", "-q", "?"]))

        assert parsed.journal == str(own_file.parent / "runs")
        assert parsed.mcp == [own_file.parent / "a.json"]

    def test_each_setting_is_a_flag_of_ask(self):
        """Each key belongs to a flag, and fills the attribute of that flag."""
        parsed = vars(command_parser().parse_args(["ask", "x", "-q", "?"]))

        assert {key.attribute for key in KEYS} <= parsed.keys()


class TestMistakes:
    """A setting that is unknown or does not fit is an error before anything is sent."""

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("max_cots = 1", "there is no setting 'max_cots'. Did you mean 'max_cost'?"),
            ("max_token = 1", "Did you mean 'max_tokens'?"),
            ("zzz = 1", "There are model, sub_model, "),
            ('max_cost = "1"', "'max_cost' must be a number of 0 or more, not '1'"),
            ("max_iterations = true", "'max_iterations' must be a whole number, not True"),
            ('price = {"openai/x" = 1}', "'price' must be a table of pairs by model"),
            ('api_key = "sk-123"', "looks like a key, which does not belong in a file"),
            ('openai_api_key = "sk-123"', "looks like a key"),
            ("max_cost = ", "it is not TOML"),
            ('api_base = "http://a:sk-123@127.0.0.1/v1"', "has a password"),
        ],
    )
    def test_in_a_file(self, run_here, text, message):
        """The error names the file, the setting, and the nearest one; it never shows a key."""
        project(text)
        for command in (["config"], ["ask", "log.txt", "-q", "?", "--model", "openai/x"]):
            done = run_here(*command)

            assert done.returncode == 11
            assert "pyproject.toml" in done.stderr
            assert message in done.stderr
            assert "sk-123" not in done.stderr + done.stdout

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("DSPY_RLM_MAX_COTS", "1", "Did you mean DSPY_RLM_MAX_COST?"),
            ("DSPY_RLM_MAX_COST", "much", "must be a number of 0 or more, not 'much'"),
            ("DSPY_RLM_PLAIN", "perhaps", "must be true or false"),
            ("DSPY_RLM_CONFIG", "nothing.toml", "there is no such file, but DSPY_RLM_CONFIG"),
        ],
    )
    def test_in_a_variable(self, run_here, name, value, message):
        """A variable that is misspelt or does not fit is an error, too."""
        done = run_here("config", variables={name: value})

        assert done.returncode == 11
        assert message in done.stderr

    def test_variables_of_others_are_left_alone(self, run_here):
        """A variable that is like none of ours is no mistake."""
        assert run_here("config", variables={"DSPY_RLM_OTHER_PROGRAM": "1"}).returncode == 0

    def test_an_unknown_key_of_the_command(self, run_here):
        """`config max_cots` names the nearest key."""
        done = run_here("config", "max_cots")

        assert done.returncode == 2
        assert "Did you mean 'max_cost'?" in done.stderr

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ('tools = ["os:system"]', "it runs code"),
            ('mcp = "servers.json"', "it runs code"),
            ('api_base = "https://example.org/v1"', "your keys are sent to that address"),
            ('model = "huggingface/https://example.org"', "is sent your keys"),
        ],
    )
    def test_a_project_gets_neither_code_nor_keys(self, run_here, own_file, text, reason):
        """A downloaded project cannot run code or read keys; the user's own file may say the same."""
        project(text)
        done = run_here("config")

        assert done.returncode == 11
        assert reason in done.stderr
        assert str(own_file) in done.stderr
        Path("pyproject.toml").unlink()
        own_file.write_text(text)
        assert run_here("config").returncode == 0

    def test_a_password_in_an_address_is_not_shown(self, run_here):
        """A flag may have one; what is printed has stars."""
        address = ["--api-base", "https://me:sk-123@example.org/v1"]
        done = run_here("config", *address), run_here("config", "--json", *address)

        assert "sk-123" not in "".join(one.stdout + one.stderr for one in done)
        assert "https://***@example.org/v1" in done[0].stdout


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("sub_model", "a=x/y b=x/z", ["a=x/y", "b=x/z"]),
        ("price", "x/y=1,2", ["x/y=1,2"]),
        ("max_tokens", "5", 5),
        ("max_cost", "0.5", 0.5),
        ("journal", "off", False),
        ("journal", "runs", "runs"),
        ("quiet", "yes", True),
        ("api_base", "http://x/v1", "http://x/v1"),
    ],
)
def test_texts_of_variables(name, text, value):
    """A variable has the value that the flag would have; several are separated by spaces."""
    assert from_text(BY_NAME[name], text) == value


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("sub_model", "x/y", ["x/y"]),
        ("sub_model", {"a": "x/y"}, ["a=x/y"]),
        ("price", {"x/y": [1, 2.5]}, ["x/y=1,2.5"]),
        ("tools", ["a:b"], ["a:b"]),
        ("max_seconds", 3, 3.0),
    ],
)
def test_values_of_files(name, value, expected):
    """A file may write lists and tables; they become what the flags would be."""
    assert from_toml(BY_NAME[name], value) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", ""),
        ("price", {"x": [1]}),
        ("price", {"x": [-1, 1]}),
        ("sub_model", {}),
        ("max_cost", float("inf")),
    ],
)
def test_values_that_do_not_fit(name, value):
    """A value of another kind is refused."""
    with pytest.raises(NotThisKindError):
        from_toml(BY_NAME[name], value)


class TestAsk:
    """`ask` and the commands on runs read the settings."""

    def test_all_of_a_run_may_be_configured(self, server: Server, own_file):
        """With models, address, limits and journal in files, `ask` needs a file and a question."""
        address = server.policies.base_url
        own_file.write_text(
            f'api_base = "{address}"\nsub_model = "openai/sub"\nmax_iterations = 1\n'
        )
        project('model = "openai/root"\njournal = "runs"\nallow_partial = true\nmax_iterations = 5')
        done = server.run("ask", "log.txt", "-q", "ERROR")

        assert (done.returncode, done.stdout) == (0, "It is bad: 2\n"), done.stderr
        assert len(list(Path("runs").glob("*.jsonl"))) == 1
        assert "submitted" in server.run("runs", "list").stdout

    def test_a_recorded_run_keeps_its_limits(self, server: Server, own_file):
        """`--resume` takes the address from the settings, and limits and models from the record."""
        server.policies.fail("root", Fault(after=1, status=400))
        assert server.ask("log.txt", "-q", "ERROR", "--journal", "run.jsonl").returncode == 20
        address = server.policies.base_url
        own_file.write_text(f'api_base = "{address}"\nmodel = "openai/other"\nmax_iterations = 1\n')
        again = server.run("ask", "--resume", "run.jsonl")

        assert (again.returncode, again.stdout) == (0, "It is bad: 2\n"), again.stderr
