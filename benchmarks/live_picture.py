"""The pictures of the live view in docs/: runs the scene of `live_scene.py`, and draws what the terminal shows of it.

python -m benchmarks.live_picture                  # writes docs/pictures/live-*.svg
chromium --headless --screenshot=live.png docs/pictures/live-batch.svg     # one as PNG
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from benchmarks import live_scene
from dspy_rlm.live.rich_tree import Line, RichTree
from dspy_rlm.live.state import RunView
from dspy_rlm.live.tree import Tree

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
COLUMNS, ROWS = 104, 32

# Colours of a dark terminal whose greys are readable: rich's own dims text until it is not.
THEME = TerminalTheme(
    (24, 26, 31),
    (215, 218, 224),
    [
        *((40, 44, 52), (224, 108, 117), (126, 195, 121), (229, 192, 123)),
        *((97, 175, 239), (198, 120, 221), (86, 182, 194), (171, 178, 191)),
    ],
)

# As rich has it, without a web font: a picture loads nothing.
SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px;
line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class Camera:
    """A display that draws a picture the first time that a run is as it should be on it."""

    def __init__(self, wanted: dict[str, Callable[[RunView], bool]]) -> None:
        """Takes the pictures by name, with the moment of each."""
        self._wanted = wanted
        self._renderer = RichTree()

    def begin(self, tree: Tree) -> None:
        """See `Display`."""

    def changed(self, tree: Tree) -> None:
        """See `Display`."""
        with tree.lock:
            for name, is_due in list(self._wanted.items()):
                if is_due(tree.root):
                    del self._wanted[name]
                    lines = self._renderer.live(tree.root, tree.clock(), COLUMNS, ROWS)
                    draw(lines, name)

    def end(self, tree: Tree) -> None:
        """See `Display`."""
        draw(self._renderer.final(tree.root, tree.clock(), COLUMNS), "live-result")


def draw(lines: list[Line], name: str) -> None:
    """Writes lines as a picture."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(line, no_wrap=True, crop=True)
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.svg"
    svg = console.export_svg(title="", theme=THEME, code_format=SVG, unique_id=name)
    path.write_text("\n".join(line.rstrip() for line in svg.split("\n")), "utf-8")
    print(path, file=sys.stderr)


def batch_half_done(run: RunView) -> bool:
    """The batch of the second step is half done, and three of its calls have failed."""
    step = run.step
    return bool(step and step.number == 2 and any(site.done >= 24 for site in step.sites))


def sub_runs_half_done(run: RunView) -> bool:
    """Of the sub-runs of the fourth step, one is over."""
    step = run.step
    running = (
        [one for one in step.sub_runs if not one.is_over and len(one.steps) > 1] if step else []
    )
    return bool(step and step.runs_done == 1 and running)


def main() -> None:
    """Draws all pictures."""
    camera = Camera({"live-batch": batch_half_done, "live-sub-runs": sub_runs_half_done})
    live_scene.play(camera)


if __name__ == "__main__":
    main()
