# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 7. Tools, MCP and the limits of the sandbox
#
# Code in a cell can reach nothing: no file, no network, no environment, no other process. What it may do in the world it does through **tools**, functions of your program that run on the host. This
# notebook offers a Python function and an MCP server as tools, then tries eleven ways to break out of the sandbox.

# %%
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Literal

import dspy

import dspy_rlm
from dspy_rlm.testing import Action, choose_models, policy

# %% [markdown]
# ## A function as a tool
#
# The model reads the name, the types, the defaults and the docstring. Arguments are checked before the function is called; what it raises is raised in the cell and costs a turn at most.

# %%
stock = sqlite3.connect(":memory:", check_same_thread=False)
stock.execute("create table goods (sku text, warehouse text, amount int)")
stock.executemany(
    "insert into goods values (?, ?, ?)",
    [(f"K{n}", place, n * 7 % 40) for n in range(1, 61) for place in ("north", "south")],
)


def amount(sku: str, warehouse: Literal["north", "south"] = "north") -> int:
    """Returns how many pieces of an article are in stock.

    Args:
        sku: The article's number, such as K12.
        warehouse: The place.
    """
    row = stock.execute(
        "select amount from goods where sku = ? and warehouse = ?", (sku, warehouse)
    ).fetchone()
    if row is None:
        raise KeyError(f"there is no article {sku}")
    return row[0]


@policy
def root(task):
    yield Action(
        "Try the tool on one article.", "print(amount('K1'), amount('K1', warehouse='east'))"
    )
    yield Action(
        "The warehouses are north and south. One that does not exist?", "print(amount('K99'))"
    )
    yield Action(
        "Now all articles at once, in both places.",
        """
skus = order.split()
places = ('north', 'south')
amounts = amount.batched([(sku, place) for sku in skus for place in places])
total = {sku: amounts[2 * i] + amounts[2 * i + 1] for i, sku in enumerate(skus)}
missing = [sku for sku in skus if total[sku] == 0]
print(len(amounts), 'calls;', total)
""",
    )
    yield Action("Submit.", "SUBMIT(missing=missing, pieces=sum(total.values()))")


lms = choose_models(root)
dspy.configure(lm=lms.root)
rlm = dspy_rlm.RLM("order -> missing: list[str], pieces: int", tools=[amount])
prediction = rlm(order="K1 K2 K20 K40 K60")

# %% [markdown]
# The first two steps were mistakes. This is what the model read:

# %%
for number, step in enumerate(prediction.run.steps[:3], 1):
    print(f"[{number}] {step.code.strip().splitlines()[0]}\n{step.output.strip()}\n")
print(prediction.missing, prediction.pieces)

if lms.scripted:
    in_stock = lambda sku: sum(amount(sku, place) for place in ("north", "south"))
    assert prediction.missing == [
        sku for sku in ("K1", "K2", "K20", "K40", "K60") if in_stock(sku) == 0
    ]
    assert "east" in prediction.run.steps[0].output and "K99" in prediction.run.steps[1].output

# %% [markdown]
# What the model was told about the tool:

# %%
system = lms.root.history[-1]["messages"][0]["content"]
start = system.index("- `amount(")
print(system[start : start + 330])

# %% [markdown]
# ## A server's tools
#
# `dspy_rlm.MCP` offers the tools of any [MCP](https://modelcontextprotocol.io) server, one that is started as a program or one at an address. This one is ten lines, written to a temporary folder. (`pip install "dspy-rlm[mcp]"`)

# %%
SERVER = '''
from mcp.server import MCPServer

server = MCPServer("weather")


@server.tool()
def temperature(city: str) -> float:
    """Returns the temperature in a city, in degrees Celsius."""
    return {"Rome": 18.5, "Oslo": -3.0, "Lima": 21.0}[city]


@server.tool()
def delete_station(city: str) -> str:
    """Deletes a weather station."""
    return "gone"


server.run()
'''
folder = Path(tempfile.mkdtemp())
(folder / "weather.py").write_text(SERVER)


@policy
def asks_the_weather(task):
    yield Action(
        "One call for each city.",
        "degrees = dict(zip(cities, temperature.batched(cities)))\nSUBMIT(warmest=max(degrees, key=degrees.get))",
    )


weather = dspy_rlm.MCP([sys.executable, "weather.py"], cwd=folder, only=["temperature"])
lms = choose_models(asks_the_weather, quiet=True)
with (
    dspy_rlm.RLM("cities: list[str] -> warmest: str", tools=[weather]) as rlm,
    dspy.context(lm=lms.root),
):
    print(rlm(cities=["Rome", "Oslo", "Lima"]).warmest)

offered = lms.root.history[-1]["messages"][0]["content"]
print("delete_station is offered:", "delete_station" in offered)
assert "temperature(city" in offered and "delete_station" not in offered

# %% [markdown]
# A tool that writes or pays does so when code calls it. `only=` is the way to offer no more than a run needs.
#
# ## Breaking out
#
# The sandbox is Python compiled to WebAssembly, in a process without permissions; on Linux the kernel confines that process as well. It is a package of its own, so it can be tried without
# any model. Each row below is a cell with a hostile idea. A cell that fails is data, not an exception.

# %%
from sandbox_runtime import Failed, Limits, open_session

secret = folder / "secret.txt"
secret.write_text("the crown jewels")

attempts = {
    "read a file of yours": f"print(open({str(secret)!r}).read())",
    "list your home": "import pathlib; print(list(pathlib.Path.home().iterdir()))",
    "read keys in the environment": "import os; print({k: v for k, v in os.environ.items() if 'KEY' in k})",
    "fetch a page": "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9')",
    "open a socket": "import socket; socket.create_connection(('127.0.0.1', 22), 2)",
    "start a program": "import subprocess; print(subprocess.run(['id'], capture_output=True))",
    "read by JavaScript": "import js; print(js.Deno.readTextFileSync('/etc/passwd'))",
    "run forever": "while True: pass",
    "take all memory": "x = [b'x' * 10**8 for _ in range(1000)]",
    "print without end": "while True: print('spam' * 50)",
    "end the process": "import os; os._exit(1)",
}
outcomes = {}
with open_session(limits=Limits(cell_seconds=2, memory_bytes=2**29, output_chars=300)) as session:
    session.run_cell("kept = 42")
    for idea, code in attempts.items():
        outcomes[idea] = session.run_cell(code)
    survivor = session.run_cell("print(kept)")

# %%
from IPython.display import HTML, display
import html


def row(idea, result):
    """Returns a row of the table: the idea, the error or the output, and how the cell ended."""
    failed = isinstance(result, Failed)
    text = (
        f"{result.error_type}: {result.message}" if failed else f"printed {result.output.strip()}"
    )
    text = text.replace(str(folder), "...")
    cells = (idea, "failed" if failed else "completed", text[:120])
    return (
        "<tr>"
        + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in cells)
        + "</tr>"
    )


head = "<tr><th>the idea</th><th>the cell</th><th>its error or output</th></tr>"
rows = "".join(row(idea, result) for idea, result in outcomes.items())
display(HTML(f"<table>{head}{rows}</table>"))
print("after all that, the variable is still there:", survivor.output.strip())

# %%
assert survivor.output.strip() == "42"
got_through = [idea for idea, result in outcomes.items() if not isinstance(result, Failed)]
assert all(outcomes[idea].output.strip() in ("[]", "{}") for idea in got_through), outcomes
assert not any("crown jewels" in str(result) for result in outcomes.values())

# %% [markdown]
# A loop is interrupted, and the variables stay. If the process dies, the session continues in another one, in the state before that cell. Two cells completed, and found nothing: the home
# folder that a cell sees is in a file system of its own in memory, and its environment is its own as well.
#
# [SECURITY.md](../SECURITY.md) lists every promise, with the layers that keep it and the test that shows it; `python -m benchmarks.security` runs 673 hostile programs. What is *not* promised is there as well: for
# instance, a tool can be called with any arguments of its type, so a tool that takes SQL or a path has to check it.
#
# **Next:** [8. Optimise with GEPA and MIPROv2](08_optimise.ipynb)
