"""Cells reach nothing of the host or of another session."""

from __future__ import annotations

import os
import select
import socket
import sys
from pathlib import Path

import pytest
from session_cells import (
    failure,
    output,
)

from sandbox_runtime.open import ready_engine


class TestIsolation:
    """A cell has no way out: not to JavaScript, the network, files, processes or the environment."""

    @pytest.mark.parametrize(
        "code",
        [
            "import js",
            "import pyodide_js",
            "from js import fetch",
            "import importlib; importlib.import_module('js')",
            "from pyodide.code import run_js; run_js('1')",
            "import pyodide.code; pyodide.code.run_js('globalThis')",
            "import sys; sys.modules['js'].eval",
            "import pyodide_js._module",
            "import micropip",
        ],
    )
    def test_no_javascript(self, session, code):
        """The modules that give access to JavaScript are removed."""
        assert failure(session, code).error_type in ("ModuleNotFoundError", "KeyError")

    @pytest.mark.parametrize(
        "code",
        [
            "import socket; socket.create_connection(('127.0.0.1', PORT), timeout=1)",
            "import urllib.request; urllib.request.urlopen('http://127.0.0.1:PORT/', timeout=1)",
            "import http.client; http.client.HTTPConnection('127.0.0.1', PORT, 1).request('GET', '/')",
            "import pyodide.http; pyodide.http.open_url('http://127.0.0.1:PORT/')",
            "import pyodide.http; await pyodide.http.pyfetch('http://127.0.0.1:PORT/')",
            "import pyodide.http; pyodide.http.pyxhr.get('http://127.0.0.1:PORT/')",
            "import asyncio; await asyncio.open_connection('127.0.0.1', PORT)",
        ],
    )
    def test_no_network(self, session, code):
        """A listener on this very machine sees no connection."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

            result = failure(session, code.replace("PORT", str(port)))

            assert result.error_type != "CellTimeoutError"
            assert select.select([listener], [], [], 0) == ([], [], [])

    def test_no_host_file(self, session, tmp_path):
        """A cell cannot read, list or write files of the host."""
        secret = tmp_path / "secret"
        secret.write_text("hush")

        assert failure(session, f"open({str(secret)!r})").error_type == "FileNotFoundError"
        assert failure(session, f"import os; os.listdir({str(tmp_path)!r})").error_type == (
            "FileNotFoundError"
        )
        assert "etc" not in output(session, "import os; os.listdir('/')")
        session.run_cell(f"import os; os.makedirs({str(tmp_path)!r}); open({str(secret)!r}, 'w')")
        assert secret.read_text() == "hush"

    def test_the_environment_is_empty(self, opened, monkeypatch):
        """No variable of the host is visible; the few variables belong to the interpreter."""
        monkeypatch.setenv("SECRET_TOKEN", "hush")
        printed = output(opened(), "import os; sorted(os.environ)")

        assert printed == (
            "['HOME', 'LANG', 'LD_LIBRARY_PATH', 'LOGNAME', 'PATH', 'PWD', 'PYTHONINSPECT', 'USER', "
            "'_']\n"
        )

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_the_process_has_no_secret(self, opened, monkeypatch):
        """Its environment and command line contain nothing of the host's."""
        monkeypatch.setenv("SECRET_TOKEN", "hush")
        session = opened()
        own = Path(f"/proc/{session.pid}")

        names = {line.split(b"=")[0] for line in own.joinpath("environ").read_bytes().split(b"\0")}
        assert names - {b""} == {name.encode() for name in ready_engine().environment}
        assert os.readlink(own / "cwd") == "/"  # noqa: PTH115 - the link itself is the point
        assert b"hush" not in own.joinpath("cmdline").read_bytes()

    @pytest.mark.parametrize(
        "code",
        [
            "import subprocess; subprocess.run(['ls'])",
            "import os; os.fork()",
            "import os; os.execv('/bin/ls', ['ls'])",
        ],
    )
    def test_no_processes(self, session, code):
        """A cell can start no processes. Its threads are stacks of the same thread of the system."""
        failure(session, code)

    def test_files_of_cells_are_in_memory(self, session):
        """Cells can write and read files; the host's disk is unchanged."""
        code = "open('/tmp/own.txt', 'w').write('x')\nopen('/tmp/own.txt').read()"

        assert output(session, code) == "'x'\n"
        assert not Path("/tmp/own.txt").exists()

    def test_sessions_share_nothing(self, opened):
        """Files and variables of one session are not in another."""
        opened().run_cell("x = 1\nopen('/tmp/x', 'w').write('x')")

        assert output(opened(), "import os; 'x' in globals(), os.path.exists('/tmp/x')") == (
            "(False, False)\n"
        )

    def test_sessions_draw_different_random_numbers(self, opened):
        """Although all of them start from one image."""
        drawn = {
            output(opened(), "import random, uuid; random.random(), uuid.uuid4()") for _ in "ab"
        }

        assert len(drawn) == 2
