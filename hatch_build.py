"""The build hook: puts Pyodide, the boot image and the viewer's script into the wheel, so that it runs without a network.

Beside them goes the bill of materials, into `.dist-info/sboms`. An editable install carries nothing: its
engine and the viewer's script go into the user's cache at first use.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EngineHook(BuildHookInterface):
    """Builds the engine and adds its files to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """See hatchling. `version` is `editable` or `standard`."""
        if version == "editable":
            return
        sys.path.insert(0, self.root)
        from dspy_rlm.viewer import bundle as viewer
        from sandbox_runtime.engine import assets
        from sandbox_runtime.engine import deno as executable
        from sandbox_runtime.installation import install, sbom

        self._workshop = tempfile.TemporaryDirectory(prefix="dspy-rlm-engine-")
        folder = Path(self._workshop.name)
        deno = executable.find_deno()
        install.build(deno, folder)
        for name in (*assets.INSTALLED_FILES, assets.MANIFEST_FILE):
            build_data["force_include"][str(folder / name)] = f"sandbox_runtime/engine/files/{name}"
        page = folder / "viewer"
        page.mkdir()
        viewer.build(page)
        for name in (viewer.SCRIPT, viewer.STYLE, viewer.DIGEST):
            build_data["force_include"][str(page / name)] = f"dspy_rlm/viewer/built/{name}"
        bill = folder / sbom.FILE_NAME
        core = self.metadata.core
        text = sbom.make_sbom(
            self.metadata.version, folder, executable.v8_version(deno), core.dependencies
        )
        bill.write_text(text, encoding="utf-8")
        build_data["sbom_files"].append(str(bill))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """See hatchling."""
        if version != "editable":
            self._workshop.cleanup()
