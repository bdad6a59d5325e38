"""`dspy-rlm batch`: mistakes that cost nothing, the dry run, and a whole job."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from dspy_rlm.cli.batching.rates import numbers_by_model
from dspy_rlm.cli.exit_codes import CommandError
from dspy_rlm.cli.main import main
from dspy_rlm.testing import Action, PolicyServer, scripted

STEPS = (Action("Look.", "size = len(text)"), Action("Done.", "SUBMIT(answer=text.upper())"))


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"id": i, "text": f"row {i}"}) for i in range(3)]
    path.write_text("\n".join([*lines, "nonsense"]))
    return path


@pytest.fixture
def run(rows, tmp_path, capsys, monkeypatch):
    """Runs the command on the rows; returns its exit code, and what it wrote to stdout and stderr."""
    for name in ("OPENAI_API_KEY", "DSPY_RLM_MODEL"):
        monkeypatch.delenv(name, raising=False)

    def run(*flags, source=rows, signature="text -> answer: str"):
        sig = ["--sig", signature] if signature else []
        code = main(["batch", str(source), *sig, "-o", str(tmp_path / "out"), *flags])
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


class TestMistakes:
    @pytest.mark.parametrize(
        ("flags", "code", "message"),
        [
            (["--rpm", "many"], 2, "must be a number above 0"),
            (["--max-cost", "0"], 2, "--max-cost must be more than 0"),
            (["--concurrency", "0"], 2, "--concurrency must be 1 or more"),
            (["--sample", "5"], 2, "--sample belongs to --dry-run"),
            (["--program", "x.py:rlm"], 2, "Say what to run"),
            ([], 11, "No model is configured"),
        ],
        ids=lambda value: value if isinstance(value, str) else None,
    )
    def test_they_are_found_before_anything_else(self, run, flags, code, message):
        """The message says what to do."""
        found, _, error = run(*flags)

        assert found == code
        assert message in error

    def test_a_missing_file_is_an_input_error(self, run, tmp_path):
        """As of all commands."""
        assert run(source=tmp_path / "no.jsonl")[0] == 10

    @pytest.mark.nightly
    def test_ray_without_ray_names_the_extra(self, tmp_path, rows):
        """In a process that cannot import it."""
        code = (
            "import sys; sys.modules['ray'] = None\n"
            "from dspy_rlm.cli.main import main\n"
            f"sys.exit(main(['batch', {str(rows)!r}, '--sig', 'text -> answer', '-o', {str(tmp_path / 'out')!r},"
            " '--model', 'openai/m', '--api-base', 'http://127.0.0.1:9/v1', '--ray']))"
        )
        ended = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )

        assert ended.returncode == 11
        assert 'pip install "dspy-rlm[ray]"' in ended.stderr

    def test_numbers_are_by_model(self):
        """Of all models, or of the one that is named."""
        assert numbers_by_model(["60", "openai/a=5.5"], "rpm") == {"": 60.0, "openai/a": 5.5}
        with pytest.raises(CommandError):
            numbers_by_model(["openai/a=inf"], "rpm")

    def test_a_rate_of_an_unknown_model_is_refused(self, run):
        """It would hold nothing back."""
        code, _, error = run("--model", "openai/m", "--rpm", "openai/other=5")

        assert code == 2
        assert "name openai/other, but the models are openai/m" in error


def test_a_dry_run_has_a_bound_and_leaves_no_trace(run, tmp_path):
    """No model is called; what is not known is said, with what to do about it."""
    code, output, _ = run("--model", "openai/gpt-4o-mini", "--dry-run", "--rpm", "60")

    assert code == 0
    assert "rows: 4, 0 done" in output
    assert "cost: unknown before some rows have run: --dry-run --sample 5" in output
    assert "at most: $" in output
    assert "at least 4 s by the rates" in output
    assert not (tmp_path / "out").exists()


def test_the_money_of_a_row_bounds_the_job(run):
    """With `--max-row-cost` or `--max-cost`, whichever is less."""
    flags = ("--model", "openai/gpt-4o-mini", "--dry-run", "--json", "--max-row-cost", "0.5")

    assert json.loads(run(*flags)[1])["cost_at_most"] == 2.0
    assert json.loads(run(*flags, "--max-cost", "1")[1])["cost_at_most"] == 1.0


@pytest.mark.nightly
def test_a_job_from_the_shell(run, tmp_path):
    """A sample, its estimate, the rest, and the refusal of a folder that has a job."""
    with PolicyServer({"gpt-4o-mini": scripted(*STEPS)}) as server:
        flags = ("--key", "id", "--model", "openai/gpt-4o-mini", "--api-base", server.base_url)
        code, output, _ = run(*flags, "--dry-run", "--sample", "2")
        assert code == 0
        assert "rows: 4, 2 done" in output
        assert "from 2 rows that have run" in output

        code, _, error = run(*flags)
        assert code == 11
        assert "Go on with it by --resume" in error

        code, output, _ = run(*flags, "--resume", "--json")
        assert code == 3  # the line that is no JSON
        assert json.loads(output)["counts"] == {"submitted": 3, "failed": 1}
        assert len(server.requests) <= 6  # DSPy's cache may have answers of an earlier test run
    lines = (tmp_path / "out/rows.jsonl").read_text().splitlines()
    assert [json.loads(line)["answer"] for line in lines] == ["ROW 0", "ROW 1", "ROW 2", None]
