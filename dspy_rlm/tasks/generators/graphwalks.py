"""Walks on a graph, after OpenAI's GraphWalks: which nodes are at a distance, which ones point to a node?

The graph is a list of directed edges between nodes with hexadecimal names.
https://huggingface.co/datasets/openai/graphwalks
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator

from dspy_rlm.tasks import scoring
from dspy_rlm.tasks.draws import Draws
from dspy_rlm.tasks.task import Form, Item

NODE_CHARS = 10
EDGES_PER_NODE = 2
_EDGE_CHARS = 2 * NODE_CHARS + len(" -> \n")

FORM = Form(
    list[str],
    "The context is a directed graph, as a list of edges.",
    "the names of the nodes, each once",
    scoring.same_set,
    scoring.graphwalks,
)

_AT_DEPTH = "Which nodes are reached first at depth {depth} of a breadth-first search from {node}? The node itself is at depth 0."
_PARENTS = "Which nodes have an edge to {node}?"


def generate(draws: Draws, chars: int, n: int) -> Iterator[Item]:
    """Yields items, each with a graph of its own: a search, then parents, by turns."""
    for at in range(n):
        yield _item(draws.stream(at), chars, at)


def _item(draws: Draws, chars: int, at: int) -> Item:
    count = max(chars // _EDGE_CHARS, 20)
    nodes = _names(draws, count // EDGES_PER_NODE)
    edges: dict[tuple[str, str], None] = {}
    while len(edges) < count:
        start, end = draws.choice(nodes), draws.choice(nodes)
        if start != end:
            edges[start, end] = None
    question, answer = _search(draws, edges) if at % 2 == 0 else _parents(draws, edges)
    context = "\n".join(f"{start} -> {end}" for start, end in edges)
    counts = {"edges": len(edges), "answers": len(answer)}
    return Item(f"graphwalks-{at}", context, question, answer, counts)


def _names(draws: Draws, count: int) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        found[draws.hexadecimal(NODE_CHARS)] = None
    return list(found)


def _search(draws: Draws, edges: dict[tuple[str, str], None]) -> tuple[str, list[str]]:
    children: dict[str, list[str]] = {}
    for start, end in edges:
        children.setdefault(start, []).append(end)
    while True:
        node, depth = draws.choice(tuple(children)), draws.between(2, 5)
        found = _at_depth(children, node, depth)
        if found:
            return _AT_DEPTH.format(depth=depth, node=node), found


def _at_depth(children: dict[str, list[str]], node: str, depth: int) -> list[str]:
    depths = {node: 0}
    queue = deque([node])
    while queue:
        current = queue.popleft()
        if depths[current] == depth:
            continue
        for child in children.get(current, ()):
            if child not in depths:
                depths[child] = depths[current] + 1
                queue.append(child)
    return sorted(name for name, found in depths.items() if found == depth)


def _parents(draws: Draws, edges: dict[tuple[str, str], None]) -> tuple[str, list[str]]:
    node = draws.choice(tuple(edges))[1]
    return _PARENTS.format(node=node), sorted(start for start, end in edges if end == node)


def solve(context: str, question: str) -> list[str]:
    """Returns the answer by passing over all edges once for each level."""
    edges = [line.split(" -> ") for line in context.splitlines()]
    (node,) = re.findall(r"[0-9a-f]{10}", question)
    if question.startswith("Which nodes have"):
        return sorted({start for start, end in edges if end == node})
    (depth,) = re.findall(r"depth (\d+) of", question)
    seen = frontier = frozenset({node})
    for _ in range(int(depth)):
        frontier = frozenset(end for start, end in edges if start in frontier) - seen
        seen |= frontier
    return sorted(frontier)
