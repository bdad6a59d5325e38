"""The page: one file that runs nothing but its own script, whatever models wrote, and a redacted one."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from viewed_runs import NO_SCRIPT, Lines, page_of, texts_and_document

from dspy_rlm.journal import JournalError
from dspy_rlm.viewer.escaping import escaped
from dspy_rlm.viewer.outline import MAX_CALLS_OF_STEP, MAX_CHARS, outline_of

HOSTILE = (
    "</script><script>alert(1)</script>",
    "</style></title></main></pre></textarea></xmp></noscript><script>alert(1)</script>",
    "<!-- <script> --!> ]]> <![CDATA[",
    "<img src=x onerror=alert(1)>",
    "\" onmouseover=alert(1) x=\"' onfocus='alert(1)",
    "javascript:alert(1) data:text/html,<script>alert(1)</script> https://evil.example/x.png",
    "<a href='javascript:alert(1)'>x</a><base href=//evil.example><meta http-equiv=refresh content=0>",
    "\u202etxt.exe\u202c \u2066a\u2069 \u200b\ufeff\u2028\u2029",
    "a\0b \x1b[31mred\x1b[0m \x07\x08\r\x7f\x9b",
    "&lt;script&gt;&#x3C;&NotEqualTilde;&",
    "{{constructor.constructor('alert(1)')()}} ${alert(1)} `",
    "<svg/onload=alert(1)><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
)

# Elements and attributes of a page. Others would be the work of a model.
TAGS = {
    "html", "head", "meta", "title", "style", "body", "div", "main", "script", "h1", "h2", "h3", "p", "section", "ul", "li",
    "a", "table", "caption", "tr", "th", "td", "details", "summary", "pre", "code", "mark",
}  # fmt: skip
ATTRIBUTES = {
    "id",
    "hidden",
    "open",
    "href",
    "lang",
    "charset",
    "http-equiv",
    "content",
    "name",
    "type",
    "scope",
}


class Parsed(HTMLParser):
    """The elements of a page, as a browser's tokenizer sees them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: dict[str, str] = {}
        self._script = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = dict(attrs).get("id") or "" if tag == "script" else ""

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "script":
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        else:
            self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data!r}")


@pytest.fixture
def lines(tmp_path: Path) -> Lines:
    """A journal with nothing in it yet."""
    return Lines(tmp_path / "run.jsonl")


def hostile_run(lines: Lines, text: str) -> None:
    """Writes a run with a hostile text in every place where a model or a stranger can write."""
    long = f"{text} {'x' * 3_000} {text}"
    lines.run(
        inputs={"page": long, text: [text], "more": {text: text}}, outputs=("answer", text), instructions=text,
        config={"style": text, "versions": {text: text}, "models": {"root": text}},
    )  # fmt: skip
    lines.add("iteration", run="r", it=1)
    lines.call(
        "r:1", 1, [{"role": text, "content": long, text: text}], long, model=text, finish=text
    )
    lines.add(
        "tool",
        run="r",
        it=1,
        call="t",
        name=text,
        is_tool=True,
        arguments=lines.json_value([[text], {}]),
    )
    lines.call("r:2", 1, text, text, kind=text, parent_call="t", options={text: text}, refusal=text)
    lines.call("r:3", 1, text, None, kind="sub_llm", parent_call="t")
    lines.add("attempt", run="r", call="r:3", error=text, started=lines.now, seconds=1.0)
    lines.add("failed", run="r", call="r:3", error={"type": text, "message": long})
    lines.add(
        "tool_end",
        run="r",
        call="t",
        seconds=0.1,
        result=lines.text_value(long),
        error={"type": text},
    )
    lines.cell(
        1, f"x = {text!r}\n{text}", long, shown=text, outcome="failed", reasoning=text,
        error={"type": text, "message": long, "traceback": f'File "<cell 1>", line 2\n{text}'},
    )  # fmt: skip
    quote = {"text": text, "input": text, "path": text, "start": 0, "end": 3, "line": 1}
    ranges = [{"input": "page", "path": text, "start": 0, "end": 3}]
    lines.end(
        outputs={"answer": long, text: [quote]}, status=text, stopped_by=text, turns_lost={text: 2}, repairs={text: 1},
        coverage={"page": {"chars": 9, "seen": 3, "fraction": 0.3, "ranges": ranges, "unseen": []}},
        lineage={"answer": {"cells": [1], "sub_calls": [{"cell": 1, "function": text}], "ranges": ranges}}, error=text,
    )  # fmt: skip


class TestHostileText:
    """Everything that a model writes is shown as text, in every place of the page."""

    @pytest.mark.parametrize("text", HOSTILE)
    @pytest.mark.parametrize("redact", [False, True])
    def test_nothing_of_a_model_is_markup(self, lines: Lines, text: str, redact: bool):
        """The page has the elements and attributes of its own only, and two kinds of scripts."""
        hostile_run(lines, text)
        parsed = Parsed(page_of(lines.path, redact=redact))

        assert {tag for tag, _ in parsed.tags} <= TAGS
        for tag, attributes in parsed.tags:
            assert set(attributes) <= ATTRIBUTES, tag
            if "href" in attributes:
                assert re.fullmatch(r"#r\d+(-s\d+)?", attributes["href"] or "")
            if "id" in attributes:
                assert re.fullmatch(
                    r"app|outline|document|[rcw]\d+(-s\d+)?|chunk-\d+", attributes["id"] or ""
                )
        scripts = [attributes for tag, attributes in parsed.tags if tag == "script"]
        assert [one for one in scripts if one.get("type") != "application/octet-stream"] == [{}]
        assert parsed.scripts[""].strip() == NO_SCRIPT.script
        for name, block in parsed.scripts.items():
            assert name == "" or re.fullmatch(r"[A-Za-z0-9+/=]+\s*", block)
        assert sum(tag == "title" for tag, _ in parsed.tags) == 1

    @pytest.mark.parametrize("text", HOSTILE)
    def test_nothing_is_invisible_or_turns_the_text_around(self, lines: Lines, text: str):
        """Control and format characters are spelled out in the outline, and not in the page as such."""
        hostile_run(lines, text)
        page = page_of(lines.path)

        assert not re.search(
            r"[\0-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]", page
        )

    def test_such_characters_are_named(self):
        """A reader sees that they are there."""
        assert escaped("a\u202eb\0c\x1b[1m") == "a⟨U+202E⟩b⟨U+0000⟩c⟨U+001B⟩[1m"
        assert (
            escaped("two\r\nlines\tand <é> \u00a0'\"")
            == "two\nlines\tand &lt;é&gt; \u00a0&#x27;&quot;"
        )

    @pytest.mark.parametrize("text", HOSTILE)
    def test_the_document_has_the_text_as_it_was(self, lines: Lines, text: str):
        """The blocks are data: inflated, they have each text unchanged."""
        hostile_run(lines, text)
        document, stream = blocks_of(page_of(lines.path))

        step = document["journals"][0]["runs"][0]["steps"][0]
        assert step["reasoning"] == text
        chars, *spans = document["texts"][step["output"]]
        found = b"".join(
            stream[start:end] for start, end in zip(spans[::2], spans[1::2], strict=True)
        )
        assert found.decode() == f"{text} {'x' * 3_000} {text}"
        assert chars == len(found.decode())


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def blocks_of(page: str) -> tuple[dict[str, Any], bytes]:
    """Returns the document of a page, and its inflated chunks."""
    scripts = Parsed(page).scripts
    inflated = {
        name: zlib.decompress(base64.b64decode(block)) for name, block in scripts.items() if name
    }
    document = json.loads(inflated.pop("document"), parse_constant=_refuse)
    assert [len(inflated[f"chunk-{number}"]) for number in range(len(inflated))] == document[
        "chunks"
    ]
    return document, b"".join(inflated[f"chunk-{number}"] for number in range(len(inflated)))


ODD = (
    None, True, -1, 0, 10**30, 1e300, float("inf"), float("nan"), "", "x", "\ud800", "9" * 400, [], {}, [[]], {"a": {}},
    {"$value": "0" * 64, "chars": 5}, {"$value": 3}, {"$from": [1, 2], "new": "x"}, [None, {"path": None}],
)  # fmt: skip


def damage(event: Any, chance: random.Random) -> Any:
    """Returns an event with one value, at any depth, replaced or removed."""
    if isinstance(event, dict) and event:
        key = chance.choice(list(event))
        if chance.random() < 0.5 and isinstance(event[key], (dict, list)):
            return {**event, key: damage(event[key], chance)}
        if chance.random() < 0.2:
            return {name: value for name, value in event.items() if name != key}
        return {**event, key: chance.choice(ODD)}
    if isinstance(event, list) and event:
        at = chance.randrange(len(event))
        return [*event[:at], damage(event[at], chance), *event[at + 1 :]]
    return chance.choice(ODD)


@pytest.mark.sampled(20)
@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_journal_has_a_page_all_the_same(lines: Lines, seed: int):
    """Whatever stands in a journal, its page is one of valid JSON, or it is no journal."""
    hostile_run(lines, "text")
    lines.run("r.1", parent="r", parent_call="t", depth=1)
    lines.step(1, "SUBMIT(1)", "", run="r.1", outcome="submitted")
    lines.end("r.1", seconds=1.0, coverage={"page": {"ranges": []}})
    chance = random.Random(seed)
    events = [json.loads(line) for line in lines.path.read_text("utf-8").splitlines()]
    for _ in range(chance.randrange(1, 12)):
        at = chance.randrange(1, len(events))
        events[at] = damage(events[at], chance)
    if chance.random() < 0.3:
        chance.shuffle(events)
    lines.path.write_text("".join(json.dumps(event) + "\n" for event in events))

    try:
        page = page_of(lines.path, redact=chance.random() < 0.3)
    except JournalError:
        return
    document, _ = blocks_of(page)
    assert document["journals"][0]["seconds"] >= 0


class TestPolicy:
    """The page's policy allows its own script and style sheet, by their hashes."""

    def test_everything_but_the_own_script_is_forbidden(self, lines: Lines):
        """No network, no frames, no forms, no other script, no style attribute; nothing is `unsafe`."""
        lines.run()
        tags = Parsed(page_of(lines.path)).tags
        (policy,) = (
            facts["content"]
            for tag, facts in tags
            if facts.get("http-equiv") == "Content-Security-Policy"
        )
        assert policy is not None
        parts = dict(part.split(" ", 1) for part in policy.split("; "))
        hashes = [
            f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
            for text in (NO_SCRIPT.script, NO_SCRIPT.style)
        ]

        assert parts == {
            "default-src": "'none'", "script-src": hashes[0], "style-src": hashes[1], "img-src": "data:",
            "base-uri": "'none'", "form-action": "'none'",
        }  # fmt: skip
        order = [tag for tag, _ in tags]
        assert order.index("meta") < order.index("style") < order.index("script")

    def test_it_names_no_other_address(self, lines: Lines):
        """Nothing in a page of harmless texts refers to anything outside of it."""
        lines.run()
        lines.step(1, "x", "y")
        blocks = r'(?<=">)[A-Za-z0-9+/=]+(?=</script>)'
        page = re.sub(blocks, "", page_of(lines.path))

        assert not re.search(r"https?:|//[a-z]|src=|url\(|@import", page)


class TestOutline:
    """Without JavaScript, the page is an outline of the run."""

    def test_it_has_steps_code_outputs_calls_and_sub_runs(self, lines: Lines):
        """Each step is there with its permalink, the failing line marked, and what came of it."""
        lines.run(outputs=("answer",))
        lines.step(1, "a = 1\nb = page[9]", "Traceback", outcome="failed",
                   error={"type": "IndexError", "traceback": 'File "<cell 1>", line 2'})  # fmt: skip
        lines.add("iteration", run="r", it=2)
        lines.add("tool", run="r", it=2, call="t", name="sub_rlm", is_tool=False)
        lines.run("r.1", parent="r", parent_call="t", depth=1)
        lines.step(1, "SUBMIT('below')", "", run="r.1")
        lines.end("r.1", outputs={"answer": "below"})
        lines.cell(2, "SUBMIT(sub_rlm(page))", "")
        lines.end(outputs={"answer": "red"})
        texts, document = texts_and_document(lines.path)
        outline = "".join(outline_of(document, texts))

        assert 'id="r0-s1"' in outline
        assert "<mark>b = page[9]</mark>" in outline
        assert "failed: IndexError" in outline
        assert 'id="r1"' in outline
        assert outline.index('id="r0-s2"') < outline.index('id="r1-s1"') < outline.index(">red<")
        assert "1 cell failed with IndexError" in outline
        assert "code 1" in outline

    def test_it_stays_small(self, lines: Lines):
        """Of long texts it has the beginning, of many calls the first; and says how much more there is."""
        lines.run(inputs={"page": "p" * 100_000})
        lines.add("iteration", run="r", it=1)
        for number in range(MAX_CALLS_OF_STEP + 20):
            lines.call(
                f"r:{number}",
                1,
                f"{number} {'q' * 3_000}",
                "a" * 3_000,
                kind="sub_llm",
                parent_call="t",
            )
        lines.cell(1, "x", "o" * 3_000_000)
        texts, document = texts_and_document(lines.path)
        outline = "".join(outline_of(document, texts))

        assert "… and 20 more" in outline
        assert re.search(r"… \([\d,]{7,} more characters\)", outline)
        assert len(outline) < 2 * MAX_CHARS


class TestRedaction:
    """`redact` leaves sizes and figures, and no content."""

    def test_no_text_of_the_run_is_left(self, lines: Lines):
        """Inputs, outputs, prompts, replies, code, tools' arguments and paths are gone, also from the blocks."""
        word = "Zyzzogeton"
        lines = Lines(lines.path.with_name(f"{word}.jsonl"))
        lines.run(
            inputs={"page": f"{word} {'x' * 3_000}", "pages": {word: word}},
            outputs=("answer", "quotes"),
            instructions=word,
        )
        lines.add("iteration", run="r", it=1)
        lines.call("r:1", 1, f"{word} {'p' * 3_000}", f"{word} {'r' * 3_000}")
        lines.add(
            "tool",
            run="r",
            it=1,
            call="t",
            name="lookup",
            is_tool=True,
            arguments=lines.json_value([[word], {}]),
        )
        lines.call("r:2", 1, word, word, kind="sub_llm", parent_call="t", options={"stop": word})
        lines.call("r:3", 1, word, None, kind="sub_llm", parent_call="t")
        lines.add("attempt", run="r", call="r:3", error=word)
        lines.add("failed", run="r", call="r:3", error={"type": "LMError", "message": word})
        lines.add(
            "tool_end",
            run="r",
            call="t",
            seconds=0.1,
            result=lines.text_value(word),
            error={"type": "E", "message": word},
        )
        error = {"type": "KeyError", "message": word, "traceback": word}
        lines.cell(
            1, f"{word} = 1", f"{word} {'o' * 3_000}", reasoning=word, outcome="failed", error=error
        )
        quote = {
            "text": word,
            "input": "pages",
            "path": f"[{word!r}]",
            "start": 0,
            "end": 10,
            "line": 1,
        }
        ranges = [{"input": "pages", "path": f"[{word!r}]", "start": 0, "end": 10}]
        lines.end(
            outputs={"answer": word, "quotes": [quote]}, error=word, partial_outputs={"answer": word},
            coverage={"pages": {"chars": 10, "seen": 10, "fraction": 1.0, "ranges": ranges}},
            lineage={"answer": {"ranges": ranges}},
        )  # fmt: skip
        page = page_of(lines.path, redact=True)
        document, stream = blocks_of(page)

        assert word not in page
        assert word not in json.dumps(document)
        assert stream == b""
        assert document["redacted"]

    def test_the_shape_and_the_figures_stay(self, lines: Lines):
        """Steps, calls, names of fields and models, types of errors, sizes, tokens, cost and times are as without it."""
        lines.run()
        lines.step(
            1,
            "a = 1\nb = 2",
            "out",
            outcome="failed",
            error={"type": "KeyError", "traceback": 'File "<cell 1>", line 2'},
        )
        lines.end(outputs={"answer": "red"})
        plain, hidden = (
            texts_and_document(lines.path, redact=redact)[1]["journals"][0]
            for redact in (False, True)
        )
        step = hidden["runs"][0]["steps"][0]

        assert step["code"] == {"chars": 11, "lines": 2}
        assert step["error"] is not None
        assert (step["error"]["type"], step["error"]["line"], step["output_chars"]) == (
            "KeyError",
            2,
            3,
        )
        for part in ("totals", "budget", "time", "seconds", "status", "groups"):
            assert hidden[part] == plain[part]  # type: ignore[literal-required]
        kept = (
            "model",
            "input_tokens",
            "cost",
            "started",
            "seconds",
            "chars_in",
            "status",
            "prompt",
        )
        assert [[call[name] for name in kept] for call in hidden["calls"]] == [  # type: ignore[literal-required]
            [call[name] for name in kept]
            for call in plain["calls"]  # type: ignore[literal-required]
        ]
        assert [one["name"] for one in hidden["runs"][0]["inputs"]] == ["page"]
        assert [warning["kind"] for warning in hidden["warnings"]] == ["failed_cells"]
