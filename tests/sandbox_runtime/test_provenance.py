"""The origin of the engine's parts: hashes in the source, a reproducible build, a bill of materials.

Nothing here trusts the manifest beside the files: whoever changes a file can change that too.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cells import PROJECT
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from sandbox_runtime.engine import assets
from sandbox_runtime.engine import deno as executable
from sandbox_runtime.engine.provenance import (
    CPYTHON_VERSION,
    DENO_ADVISORIES,
    DENO_TESTED,
    EMSCRIPTEN_VERSION,
    PYODIDE_FILES,
    PYODIDE_VERSION,
    Advisory,
    expected_deno,
    known_flaws,
    sha256_of,
)
from sandbox_runtime.installation import sbom
from sandbox_runtime.installation.verify import (
    check_deno,
    check_files,
    check_rebuilt,
    compare_forms,
)
from sandbox_runtime.open import ready_engine

REQUIREMENTS = ["anyio>=4.1", "deno>=2.9.8,<3", "dspy<3.5,>=3.4.1"]


@pytest.fixture
def own_engine(tmp_path) -> Path:
    """A copy of the engine that may be changed, with a manifest that always agrees."""
    folder = tmp_path / "engine"
    folder.mkdir()
    for file in ready_engine().folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def unsound(findings) -> list[str]:
    return [finding.part for finding in findings if not finding.sound]


class TestAdvisories:
    """The table of Deno's known flaws."""

    def test_a_range_has_its_first_version_and_not_its_fixed_one(self):
        """A range includes its first version and excludes the fixed one, as in advisories."""
        one = Advisory("CVE-0", (2, 9, 9), (2, 10, 1), "something")

        assert [known_flaws(version, (one,)) for version in [(2, 9, 8), (2, 10, 1)]] == [(), ()]
        assert [known_flaws(version, (one,)) for version in [(2, 9, 9), (2, 10, 0)]] == [(one,)] * 2

    def test_the_tested_version_has_none(self):
        """No advisory affects the tested version, and each range contains some version."""
        assert known_flaws(DENO_TESTED) == ()
        for advisory in DENO_ADVISORIES:
            assert advisory.first < advisory.fixed
            assert re.fullmatch(r"CVE-\d{4}-\d+|GHSA(-\w{4}){3}", advisory.name)

    def test_the_package_asks_for_no_older_one(self):
        """The required version of Deno is one that this project starts."""
        text = (PROJECT / "pyproject.toml").read_text()

        lowest = re.findall(r'"deno>=([\d.]+),<3"', text)
        assert lowest == [".".join(map(str, DENO_TESTED))] * 2
        assert lowest[0] in executable.DENO_FIX


class TestHashes:
    """The constants in the source match the installed files."""

    def test_what_is_installed_is_what_it_should_be(self):
        """Pyodide's files and Deno's executable have the expected hashes."""
        engine = ready_engine()

        assert unsound(check_files(engine.folder)) == []
        assert check_deno().sound
        assert expected_deno(DENO_TESTED) == sha256_of(engine.deno)

    @pytest.mark.parametrize("name", ["pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json"])
    def test_a_changed_file_is_found_though_the_manifest_agrees(self, own_engine, name):
        """A changed file is detected even if the manifest was changed with it."""
        file = own_engine / name
        file.write_bytes(file.read_bytes() + b"!")
        assets.write_manifest(own_engine)

        assert unsound(check_files(own_engine)) == [name]

    def test_doctor_finds_it_too(self, own_engine, tmp_path):
        """`doctor` detects the changed file and names it."""
        place = tmp_path / "cache" / "dspy-rlm" / assets.cache_folder().name
        place.parent.mkdir(parents=True)
        own_engine.rename(place)
        (place / "pyodide-lock.json").write_text("{}")
        assets.write_manifest(place)

        done = command("doctor", XDG_CACHE_HOME=str(tmp_path / "cache"))

        assert done.returncode == 1
        assert f"pyodide-lock.json is NOT as in Pyodide {PYODIDE_VERSION}" in done.stdout

    def test_the_constants_are_of_one_version(self):
        """The constants agree with the lock files and the files themselves."""
        lock = json.loads((ready_engine().folder / assets.LOCK_FILE).read_text())
        ours = json.loads((assets.SOURCE_FOLDER / "deno.lock").read_text())

        assert lock["info"]["python"] == CPYTHON_VERSION
        assert lock["info"]["platform"] == f"emscripten_{EMSCRIPTEN_VERSION.replace('.', '_')}"
        assert f"pyodide@{PYODIDE_VERSION}" in ours["npm"]

    def test_another_executable_of_that_version(self, tmp_path):
        """It is named with its hash, whatever version it reports."""
        (tmp_path / "deno.py").write_text("def find_deno_bin():\n    raise FileNotFoundError\n")
        (tmp_path / "deno").write_text("#!/bin/sh\necho 'deno 2.9.8 (stable)'\n")
        (tmp_path / "deno").chmod(0o755)
        path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])

        done = command("verify", PATH=path, PYTHONPATH=f"{tmp_path}{os.pathsep}{PROJECT}")

        assert done.returncode == 1
        digest = sha256_of(tmp_path / "deno")
        assert f"is not the package index's: its SHA-256 is {digest}" in done.stdout.splitlines()[0]


class TestRebuild:
    """The boot image and every other built file can be rebuilt with the same bytes."""

    @pytest.mark.nightly
    @pytest.mark.timeout(600)
    def test_the_engine_is_built_again_byte_for_byte(self):
        """V8's compiled form may be one of several variants, of which it is exactly one."""
        done = command("verify", "--rebuild")

        assert done.returncode == 0, done.stdout
        for name in assets.INSTALLED_FILES:
            lines = [line for line in done.stdout.splitlines() if line.split()[1] == name]
            assert len(lines) == 2
            assert "is the same, byte for byte" in lines[1]

    def test_a_compiled_form_is_one_of_its_variants(self):
        """No more variants are built than it takes to find it."""
        variants = iter([b"form A", b"form B", b"form C"])

        found = compare_forms(assets.CACHE_FILE, b"form B", variants)

        assert found.sound
        assert found.words == "is the same, byte for byte, as variant 2 built here"
        assert next(variants) == b"form C"

    @pytest.mark.parametrize("changed", [b"form\x04A", b"form Ax", b"form C", b""])
    def test_a_compiled_form_that_differs_in_any_byte(self, changed):
        """No difference is accepted, however small."""
        found = compare_forms(assets.CACHE_FILE, changed, [b"form A", b"form B"])

        assert not found.sound
        assert "none of 2 variants" in found.words

    @pytest.mark.nightly
    @pytest.mark.timeout(600)
    def test_a_changed_image_is_found(self, own_engine):
        """A single changed bit anywhere in the image is detected."""
        for name, at in [("boot.pages", 5_000_000), ("worker.js", 20), (assets.CACHE_FILE, 1000)]:
            data = bytearray((own_engine / name).read_bytes())
            data[at] ^= 0x01
            (own_engine / name).write_bytes(data)
        assets.write_manifest(own_engine)

        assert set(unsound(check_rebuilt(own_engine))) == {
            "boot.pages",
            "worker.js",
            assets.CACHE_FILE,
        }


def test_the_release_workflow_trusts_no_name():
    """Every action is pinned to a commit: a tag can be moved."""
    text = (PROJECT / ".github" / "workflows" / "release.yml").read_text()

    used = re.findall(r"uses: (\S+)@(\S+) # v", text)
    assert len(used) == text.count("uses: ") >= 5
    assert all(re.fullmatch(r"[0-9a-f]{40}", commit) for _, commit in used)


class TestSbom:
    """The bill of materials."""

    def bill(self, **settings) -> dict:
        return json.loads(
            sbom.make_sbom("1.2.3", ready_engine().folder, "15.0.1", REQUIREMENTS, **settings)
        )

    def test_it_is_valid(self):
        """The document is valid by the strict schema of CycloneDX 1.6."""
        text = json.dumps(self.bill())
        validator = JsonStrictValidator(SchemaVersion.V1_6)

        assert validator.validate_str(text) is None
        assert validator.validate_str(text.replace("CycloneDX", "Cyclone")) is not None

    def test_it_names_every_part(self):
        """The document names every part with its version, and the hashes of the wheel's files."""
        bill = self.bill()
        by_name = {one["name"]: one for one in bill["components"]}

        assert by_name["pyodide"]["version"] == PYODIDE_VERSION
        assert by_name["cpython"]["version"] == CPYTHON_VERSION
        assert by_name["deno"]["version"] == ".".join(map(str, DENO_TESTED))
        assert by_name["v8"]["version"] == "15.0.1"
        assert {"anyio", "dspy"} <= by_name.keys()
        for name in assets.INSTALLED_FILES:
            digest = by_name[f"sandbox_runtime/engine/files/{name}"]["hashes"][0]["content"]
            assert digest == sha256_of(ready_engine().folder / name)
        assert {one["name"] for one in by_name["pyodide"]["components"]} == set(PYODIDE_FILES)

    def test_each_part_stands_once_and_each_edge_leads_to_one(self):
        """Every reference is unique, and every dependency refers to a component."""
        bill = self.bill(installed=lambda name: ("9", ["six"]) if name != "six" else ("1", []))
        refs = [one["bom-ref"] for one in bill["components"]]
        references = {*refs, bill["metadata"]["component"]["bom-ref"]}

        assert len(refs) == len(set(refs))
        assert {edge["ref"] for edge in bill["dependencies"]} == references
        assert {to for edge in bill["dependencies"] for to in edge["dependsOn"]} <= references
        assert "pkg:pypi/six" in refs

    def test_the_same_parts_are_the_same_text(self, monkeypatch):
        """The document is reproducible for a fixed timestamp."""
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")

        assert self.bill() == self.bill()
        assert self.bill()["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"

    def test_the_command_prints_one(self):
        """The command prints the document of this installation, with the installed versions."""
        done = command("sbom")

        assert done.returncode == 0, done.stderr
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(done.stdout) is None
        assert json.loads(done.stdout)["components"]

    @pytest.mark.nightly
    @pytest.mark.timeout(900)
    def test_a_wheel_carries_it(self, tmp_path):
        """A wheel built from a clean copy of the source contains it, with the hashes of the wheel's files."""
        source = tmp_path / "source"
        subprocess.run(["git", "clone", "-q", str(PROJECT), str(source)], check=True)
        command_line = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), "."]
        subprocess.run(command_line, cwd=source, check=True, stdout=subprocess.DEVNULL)

        [wheel] = tmp_path.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            [place] = [name for name in archive.namelist() if "/sboms/" in name]
            text = archive.read(place).decode()
            carried = {
                name: archive.read(name) for name in archive.namelist() if "/engine/files/" in name
            }

        assert re.fullmatch(r"dspy_rlm-[^/]+\.dist-info/sboms/dspy-rlm\.cdx\.json", place)
        assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
        import hashlib

        facts = {
            one["name"]: one["hashes"][0]["content"]
            for one in json.loads(text)["components"]
            if one["type"] == "file"
        }
        for name, data in carried.items():
            if not name.endswith(assets.MANIFEST_FILE):
                assert facts[name] == hashlib.sha256(data).hexdigest()


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m sandbox_runtime` in a Python of its own."""
    return subprocess.run(
        [sys.executable, "-m", "sandbox_runtime", *arguments],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
