"""A task: examples with known answers, a signature, two metrics, and a manifest that says what it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import dspy

# A common rule of thumb. The real number depends on the tokenizer and on the text.
CHARS_PER_TOKEN = 4

INPUTS = ("context", "question")


class Metric(Protocol):
    """A metric as DSPy's optimizers call it. Never raises: an answer that it cannot read scores 0."""

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> float:
        """Returns the score of the prediction, from 0 to 1."""


# Compares an answer with the truth: both are values of the output's type, or whatever a system delivered instead.
Scorer = Callable[[Any, Any], float]


@dataclass(frozen=True)
class Item:
    """One example before DSPy: a context, a question and its true answer."""

    id: str
    context: str
    question: str
    answer: Any
    counts: Mapping[str, int] = field(default_factory=dict)
    """Facts about the item for the manifest, such as the number of lines of each label."""


@dataclass(frozen=True)
class Source:
    """A text that is not generated: where it is from, its license and its hash."""

    version: str
    license: str
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The facts that identify a task. Two tasks with the same `sha256` have the same examples, byte for byte."""

    name: str
    seed: int | None
    """None for a task that was imported."""
    tokens: int | None
    """The requested length of a context. None for a task that was imported."""
    n: int
    chars: tuple[int, ...]
    """The length of each context in characters."""
    sha256: str
    sources: Mapping[str, Source]
    counts: Mapping[str, int]
    """Counts over all examples."""

    def as_dict(self) -> dict[str, Any]:
        """Returns the manifest as JSON can have it."""
        sources = {name: vars(source) for name, source in self.sources.items()}
        return {
            **vars(self),
            "chars": list(self.chars),
            "sources": sources,
            "counts": dict(self.counts),
        }


@dataclass(frozen=True)
class Task:
    """Examples with known answers, and how to score a system on them.

    Every task has the inputs `context` (a text) and `question`, and the output `answer`, whose type differs.
    """

    name: str
    signature: type[dspy.Signature]
    examples: tuple[dspy.Example, ...]
    """Each has `context`, `question`, `answer` (the truth) and `id`."""
    metric: Metric
    """The score of this package: strict, on the typed answer."""
    official_metric: Metric
    """The rule of the published benchmark. Its docstring says how it differs."""
    manifest: Manifest
    tools: tuple[Callable[..., Any], ...] = ()
    """Functions that a system needs besides its inputs."""


@dataclass(frozen=True)
class Form:
    """The parts that all tasks of a kind share: the output's type, the instructions, the scorers."""

    answer_type: Any
    instructions: str
    answer_description: str
    ours: Scorer
    official: Scorer


def make_task(
    name: str,
    form: Form,
    items: Sequence[Item],
    *,
    seed: int | None = None,
    tokens: int | None = None,
    sources: Mapping[str, Source] | None = None,
    tools: Iterable[Callable[..., Any]] = (),
) -> Task:
    """Returns the items as a task for DSPy."""
    import dspy

    fields: dict[str, Any] = {
        "context": (str, dspy.InputField()),
        "question": (str, dspy.InputField()),
        "answer": (form.answer_type, dspy.OutputField(desc=form.answer_description)),
    }
    examples = tuple(
        dspy.Example(
            context=item.context, question=item.question, answer=item.answer, id=item.id
        ).with_inputs(*INPUTS)
        for item in items
    )
    counts: dict[str, int] = {}
    for item in items:
        for key, count in item.counts.items():
            counts[key] = counts.get(key, 0) + count
    manifest = Manifest(
        name,
        seed,
        tokens,
        len(items),
        tuple(len(item.context) for item in items),
        digest_of(items),
        dict(sources or {}),
        counts,
    )
    return Task(
        name,
        dspy.Signature(fields, form.instructions),
        examples,
        metric_of(form.ours),
        metric_of(form.official),
        manifest,
        tuple(tools),
    )


def digest_of(items: Iterable[Item]) -> str:
    """Returns the SHA-256 of all examples, in an encoding that no version of Python changes."""
    digest = hashlib.sha256()
    for item in items:
        row = [item.id, item.question, item.answer]
        # Dates of imported answers are written as text.
        digest.update(json.dumps(row, separators=(",", ":"), default=str).encode())
        digest.update(item.context.encode("utf-8", "surrogatepass"))
        digest.update(b"\0")
    return digest.hexdigest()


def as_lines(task: Task) -> Iterator[str]:
    """Yields the examples as JSON lines: `id`, `context`, `question`, `answer`."""
    for example in task.examples:
        row = {name: example[name] for name in ("id", *INPUTS, "answer")}
        yield json.dumps(row, default=str) + "\n"


def metric_of(scorer: Scorer) -> Metric:
    """Returns a metric that scores the output `answer`; 0 if there is none or if it cannot be read."""

    def metric(example: Any, prediction: Any, trace: Any = None) -> float:
        del trace
        answer = getattr(prediction, "answer", None)
        if answer is None:
            return 0.0
        try:
            return float(scorer(answer, example.answer))
        except (ValueError, TypeError, AttributeError, OverflowError):
            return 0.0  # An answer of another type, from a system that does not check types.

    metric.__doc__ = scorer.__doc__
    metric.__name__ = getattr(scorer, "__name__", "metric")
    return metric
