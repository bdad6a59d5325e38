"""`dspy-rlm view`, and the built files of its page."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import platformdirs
import pytest
from viewed_runs import Lines

from dspy_rlm.cli.main import main
from dspy_rlm.viewer import bundle as building
from dspy_rlm.viewer.bundle import bundle, digest_of_sources, source_files

PRIVATE = 0o077


@pytest.fixture
def journals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the journals of two runs, in the folder of the tests."""
    for name in ("one", "two"):
        lines = Lines(tmp_path / f"{name}.jsonl")
        lines.run(inputs={"page": f"page of {name}"})
        lines.step(1, "x = 1", f"output of {name}")
        lines.end(outputs={"answer": f"answer of {name}"})
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestCommand:
    """A run becomes a file, or a page that follows it."""

    def test_the_page_is_written_to_the_named_file(self, journals: Path, capsys):
        """The path is on stdout, and the file is the whole page."""
        code = main(["view", "one.jsonl", "--html", "page.html"])
        page = (journals / "page.html").read_text("utf-8")

        assert (code, capsys.readouterr().out) == (0, "page.html\n")
        assert page.startswith("<!doctype html>")
        assert page.endswith("</html>\n")
        assert "output of one" in page

    def test_a_dash_is_stdout(self, journals: Path, capsys):
        """Nothing but the page is on stdout then."""
        assert main(["view", "one.jsonl", "--html", "-"]) == 0
        assert re.fullmatch(r"<!doctype html>.*</html>\n", capsys.readouterr().out, re.DOTALL)

    def test_without_a_name_it_is_private(self, journals: Path, monkeypatch, capsys):
        """The page goes into the user's cache, where nobody else can read it."""
        bundle()
        usual = platformdirs.user_cache_path("dspy-rlm") / "viewer"
        shutil.copytree(usual, journals / "cache" / "dspy-rlm" / "viewer")
        monkeypatch.setenv("XDG_CACHE_HOME", str(journals / "cache"))
        code = main(["view", "one", "--journals", str(journals), "--no-open"])
        path = Path(capsys.readouterr().out.strip())

        assert code == 0
        assert path.is_relative_to(journals / "cache")
        assert path.stat().st_mode & PRIVATE == 0
        assert path.suffix == ".html"

    def test_two_runs_stand_side_by_side(self, journals: Path, capsys):
        """The page has both, with permalinks of their own."""
        assert main(["view", "one.jsonl", "--compare", "two.jsonl", "--html", "page.html"]) == 0
        page = (journals / "page.html").read_text("utf-8")

        assert 'id="r0-s1"' in page
        assert 'id="b-r0-s1"' in page
        assert "output of two" in page

    def test_redact_leaves_nothing_to_read(self, journals: Path, capsys):
        """Neither the outline nor the name of the page has anything of the run."""
        assert main(["view", "one.jsonl", "--redact", "--html", "page.html"]) == 0
        page = (journals / "page.html").read_text("utf-8")

        assert "of one" not in page
        assert "one.jsonl" not in page

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["./none/run.jsonl"], "There is no file"),
            (["one.jsonl", "--html", "two.jsonl"], "is the name of a journal"),
            (["one.jsonl", "--html", "none/page.html"], "Cannot write none/page.html"),
            (["one.jsonl", "--html", "page.html", "--live"], "use one of them"),
        ],
    )
    def test_what_cannot_be_done_is_an_error_of_the_input(
        self, journals: Path, capsys, arguments, reason
    ):
        """The exit code is 10, nothing is on stdout, and the journal is as it was."""
        before = (journals / "two.jsonl").read_bytes()

        assert main(["view", *arguments]) == 10
        output = capsys.readouterr()
        assert output.out == ""
        assert reason in output.err
        assert (journals / "two.jsonl").read_bytes() == before

    def test_live_serves_until_it_is_interrupted(self, journals: Path):
        """The address is the first line of stdout, and Ctrl-C is the usual end."""
        command = [
            sys.executable,
            "-m",
            "dspy_rlm.cli.main",
            "view",
            "one.jsonl",
            "--live",
            "--no-open",
        ]
        with subprocess.Popen(
            command, cwd=journals, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                url, timeout=20
            ) as answer:
                page = answer.read().decode()
            process.send_signal(signal.SIGINT)
            code = process.wait(60)

        assert code == 0
        assert "output of one" in page


def test_the_commands_of_the_docs(journals: Path, capsys):
    """Each command of docs/viewer.md with an output runs, and prints it."""
    (journals / "one.jsonl").rename("incidents.jsonl")
    (journals / "two.jsonl").rename("other.jsonl")
    page = (Path(__file__).parents[2] / "docs" / "viewer.md").read_text("utf-8")
    commands = re.findall(r"^\$ dspy-rlm (.*)\n(.*\n)", page, re.MULTILINE)

    assert len(commands) == 3
    for command, promised in commands:
        assert main(shlex.split(command)) == 0
        assert capsys.readouterr().out == promised


class TestBundle:
    """The built files are those of the sources."""

    def test_the_built_files_have_the_digest_of_the_sources(self):
        """A changed source is built again: the files are kept by the digest of all of them."""
        built = bundle()

        assert built.sources == digest_of_sources()
        assert "main.ts" in source_files()
        assert not [name for name in source_files() if "node_modules" in name or "_test.ts" in name]

    def test_they_can_stand_in_a_page(self):
        """The script and the style sheet do not end their elements, load nothing and are one part each."""
        built = bundle()

        for text in (built.script, built.style):
            assert text.isascii()
            assert not re.search(r"</(script|style)|<!--", text, re.IGNORECASE)
        assert not re.search(r"@import|url\((?!['\"]?data:)", built.style)
        assert not re.search(r"^\s*(import|export)\b", built.script, re.MULTILINE)

    def test_building_twice_gives_the_same_files(self, tmp_path: Path):
        """The files depend on the sources alone, so that a page of two machines has the same policy."""
        building.build(tmp_path)
        built = bundle()

        assert (tmp_path / building.SCRIPT).read_text("utf-8") == built.script
        assert (tmp_path / building.STYLE).read_text("utf-8") == built.style

    def test_a_wheel_brings_its_files(self, tmp_path: Path, monkeypatch):
        """Files beside the package come first, and no bundler is needed then."""
        for name, text in ((building.SCRIPT, "s"), (building.STYLE, "c"), (building.DIGEST, "d")):
            (tmp_path / name).write_text(text)
        monkeypatch.setattr(building, "BUILT", tmp_path)
        monkeypatch.setenv("PATH", os.devnull)

        assert bundle() == building.Bundle("s", "c", "d")
