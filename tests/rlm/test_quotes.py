"""Quotes and spans: found verbatim in the inputs on the host, or refused with the nearest passage."""

from __future__ import annotations

import copy
import json
import pickle
from collections import deque
from typing import Any

import dspy
import pydantic
import pytest

from dspy_rlm import RLM, Directory, Quote, SignatureError, Span, TextFile, TextStream
from dspy_rlm.budget.budget import Budget
from dspy_rlm.evidence.answers import Answers
from dspy_rlm.evidence.nearest import difference
from dspy_rlm.evidence.searching import NotInInputsError, Searching
from dspy_rlm.evidence.texts import InputTexts
from dspy_rlm.prompts.class_lines import class_lines
from dspy_rlm.runs.run import Run
from dspy_rlm.signatures.outputs import ReplyError
from dspy_rlm.testing import fields
from sandbox_runtime import Submitted

DOC = "Line one.\nThe \u201cquick\u201d brown fox\njumps over the lazy dog.\nThe end. The end.\n"


class Fact(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    claim: str
    proof: list[Quote]
    maybe: Quote | None = None


class Task(dspy.Signature):
    """A task."""

    doc: str = dspy.InputField()
    pages: list[str] = dspy.InputField()
    quote: Quote = dspy.OutputField()
    more: list[Quote] = dspy.OutputField(default=[])
    by_name: dict[str, Quote] = dspy.OutputField(default={})
    facts: list[Fact] = dspy.OutputField(default=[])
    span: Span | None = dspy.OutputField(default=None)


PAGES = ["[1] Smith", "42", "null", "a page\nwith two lines"]


def submitted(**outputs: Any) -> dict[str, Any]:
    """The outputs of a SUBMIT of the task."""
    values = {"quote": "Line one.", **outputs}
    return Answers(Task, inputs={"doc": DOC, "pages": PAGES}).submitted(values)


def problem(**outputs: Any) -> str:
    """The message of a refused SUBMIT of the task."""
    with pytest.raises(ReplyError) as caught:
        submitted(**outputs)
    return str(caught.value)


class TestQuotes:
    def test_the_place_is_computed_by_the_host(self):
        """Positions count characters from 0, lines and columns from 1; the first of several is taken."""
        quote = submitted(quote="The end.")["quote"]

        assert (quote.text, quote.input, quote.path) == ("The end.", "doc", "")
        assert DOC[quote.start : quote.end] == "The end."
        assert (quote.line, quote.column, quote.occurrences) == (4, 1, 2)
        assert quote.is_located

    def test_the_place_that_the_lm_writes_is_replaced(self):
        """Nothing of it is believed."""
        claimed = {"text": "fox", "start": 0, "end": 3, "line": 7, "column": 9, "occurrences": 5}

        quote = submitted(quote=claimed)["quote"]

        assert (quote.start, quote.line, quote.column, quote.occurrences) == (28, 2, 19, 1)

    @pytest.mark.parametrize("text", ["[1] Smith", "42", "null", "a page\nwith two lines"])
    def test_a_text_that_looks_like_data_is_a_quote(self, text):
        """It is no list, no number and no None."""
        quote = submitted(quote=text)["quote"]

        assert (quote.text, quote.input, quote.path) == (text, "pages", f"[{PAGES.index(text)}]")

    @pytest.mark.parametrize(
        ("name", "input", "path"),
        [
            ("doc", "doc", ""),
            ("pages", "pages", "[3]"),
            ("pages[3]", "pages", "[3]"),
            ("no_input", "doc", ""),
        ],
    )
    def test_the_name_of_an_input_is_where_it_is_searched_first(self, name, input, path):
        """Also the name of a part; a name that is no input, such as one of a sub-run, is ignored."""
        quote = submitted(quote={"text": " t" if path else "e", "input": name})["quote"]

        assert (quote.input, quote.path) == (input, path)

    def test_a_quote_from_another_input_than_the_named_one_is_refused(self):
        """With the input that has it."""
        message = problem(quote={"text": "42", "input": "doc"})

        assert "'42' is not in doc; it is in pages, [1], line 1" in message

    def test_quotes_inside_of_other_types(self):
        """In lists, dicts, models and options, at any depth; what has none stays the same."""
        done = submitted(
            more=["42", {"text": "fox"}],
            by_name={"a": "dog"},
            facts=[
                {"claim": "c", "proof": ["lazy"], "maybe": "brown"},
                {"claim": "d", "proof": []},
            ],
        )

        assert [one.line for one in done["more"]] == [1, 2]
        assert done["by_name"]["a"].line == 3
        assert done["facts"][0].proof[0].line == 3
        assert done["facts"][0].maybe.line == 2
        assert done["facts"][1] == Fact(claim="d", proof=[])

    @pytest.mark.parametrize(
        "annotation",
        [deque[Quote], set[Quote], frozenset[Quote], tuple[Quote, ...], dict[Quote, int]],
        ids=str,
    )
    def test_every_container_is_searched(self, annotation):
        """None keeps a place that the LM wrote."""
        claimed = Quote.model_validate({"text": "fox", "start": 0, "line": 7})
        signature = dspy.Signature(
            {"doc": (str, dspy.InputField()), "found": (annotation, dspy.OutputField())}
        )
        value = {claimed: 1} if annotation == dict[Quote, int] else [claimed]

        done = Answers(signature, inputs={"doc": DOC}).submitted({"found": value})["found"]

        (quote,) = done
        assert (quote.start, quote.line) == (28, 2)

    def test_a_problem_names_its_place(self):
        """In the output, beside the quote."""
        message = problem(
            facts=[{"claim": "c", "proof": ["Line one.", "Line seven"]}], by_name={"a": "zebra"}
        )

        assert "- by_name: ['a']: 'zebra' is not verbatim in the inputs." in message
        assert "- facts: [0].proof[1]: 'Line seven' is not verbatim in the inputs." in message

    def test_only_some_of_many_problems_are_described(self):
        """Each description costs a search and a line of the prompt."""
        message = problem(more=[f"zebra {number}" for number in range(1000)])

        assert message.count("not verbatim") == 5
        assert "and 995 more quotes or spans that are not in the inputs" in message

    @pytest.mark.parametrize("text", ["", "  \n"])
    def test_an_empty_quote_is_refused(self, text):
        """It is everywhere and says nothing."""
        assert "a quote needs a text" in problem(quote={"text": text})

    def test_the_outputs_without_a_problem_are_kept(self):
        """As for any other refused submission."""
        with pytest.raises(ReplyError) as caught:
            submitted(quote="Line one.", more=["zebra"])

        assert caught.value.fitted["quote"].line == 1
        assert "more" not in caught.value.fitted


class TestNearestPassage:
    @pytest.mark.parametrize(
        ("text", "hint"),
        [
            ("The end. The End.", "differs only in upper and lower case from a passage in doc, line 4: 'The end. The end.'"),
            ("brown fox jumps over the", "differs only in whitespace from a passage in doc, line 2: 'brown fox\\njumps over the'"),
            ('The "quick" brown fox', "differs only in quotation marks or dashes from a passage in doc, line 2"),
            ('The "quick" brown fox jumps over', "only in quotation marks or dashes and whitespace"),
            ("jumps over the lazy cat.", "The nearest passage is in doc, line 3: 'jumps over the lazy dog.'"),
            ("JUMPS OVER THE LAZY DOG.", "only in upper and lower case"),
            ("Colourless green ideas sleep", "Nothing similar was found"),
        ],
    )  # fmt: skip
    def test_the_message_has_the_passage_to_copy(self, text, hint):
        """It says what differs, if that is only the form."""
        assert hint in problem(quote=text)

    @pytest.mark.parametrize(
        ("one", "other", "reason"),
        [
            ("a b", "a  b", "whitespace"),
            ("caf\u00e9", "cafe\u0301", "the form of its Unicode characters"),
            ("A\u2014b", "a-b", "quotation marks or dashes and upper and lower case"),
            ("a", "b", ""),
        ],
    )
    def test_difference(self, one, other, reason):
        """The fewest rules that make both equal."""
        assert difference(one, other) == reason

    def test_a_long_quote_and_a_large_input_are_compared_in_part(self):
        """The comparison is bounded: a long quote that differs late is still found by its beginning."""
        rows = "".join(f"row {number} is {number * 7919 % 10007}\n" for number in range(50_000))
        quote = rows[600_000:640_000] + "x"

        with pytest.raises(NotInInputsError, match="nearest passage is in rows, line") as caught:
            Searching(InputTexts({"rows": rows})).quote(quote)

        assert len(str(caught.value)) < 1_000


class TestInputs:
    def test_a_file_is_searched_on_the_host(self, tmp_path):
        """Without loading it; positions are characters, not bytes."""
        path = tmp_path / "log.txt"
        path.write_text("\u00e4\u00f6\u00fc\n" * 300_000 + "the \u00e9nd\nthe \u00e9nd", "utf-8")

        quote = Quote(text="the \u00e9nd").located(log=TextFile(path))

        assert (quote.start, quote.line, quote.column) == (1_200_000, 300_001, 1)
        assert quote.occurrences == 2

    def test_a_wrong_quote_of_a_file_has_its_nearest_passage(self, tmp_path):
        """Found by the same search."""
        path = tmp_path / "log.txt"
        path.write_text("noise\n" * 100_000 + "the build broke  on Monday\n", "utf-8")

        with pytest.raises(
            ValueError, match="only in whitespace from a passage in log, line 100001"
        ):
            Quote(text="the build broke on Monday").located(log=TextFile(path))

    def test_a_directory_gives_the_path(self, tmp_path):
        """The path of the file, as cells use it; files that are no texts are passed over."""
        (tmp_path / "src").mkdir()
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
        (tmp_path / "src/a.py").write_text("import os\n")
        (tmp_path / "src/b.py").write_text("x = 1\nimport os\n")
        repo = Directory(tmp_path)

        quote = Quote(text="import os").located(repo=repo)
        named = Quote(text="import os", input="repo['src/b.py']").located(repo=repo)
        span = Span(input="repo/src/b.py", start=2, end=2, lines=True).located(repo=repo)

        assert (quote.path, quote.line, quote.occurrences) == ("src/a.py", 1, 2)
        assert (named.input, named.path, named.line) == ("repo", "src/b.py", 2)
        assert (span.path, span.text) == ("src/b.py", "import os")

    def test_texts_at_any_depth(self):
        """Dicts, models, dataclasses, examples, conversations and streams."""
        inputs = {
            "rows": [{"title": "one"}, {"title": ("two", "three")}],
            "example": dspy.Example(text="four"),
            "history": dspy.History(messages=[{"q": "five"}]),
            "fact": Fact(claim="six", proof=[]),
            "stream": TextStream(["sev", "en"]),
            "number": 8,
        }

        def path(text: str) -> str:
            quote = Quote(text=text).located(**inputs)
            return f"{quote.input}{quote.path}"

        assert path("three") == "rows[1]['title'][1]"
        assert path("four") == "example['text']"
        assert path("five") == "history.messages[0]['q']"
        assert path("six") == "fact.claim"
        assert path("seven") == "stream"
        with pytest.raises(ValueError, match="not verbatim"):
            Quote(text="8").located(**inputs)

    def test_cells_of_a_table(self):
        """A text cell, by column and row."""
        pandas = pytest.importorskip("pandas")
        table = pandas.DataFrame({"n": [1, 2], "name": ["Ada", "Grace Hopper"]})

        quote = Quote(text="Hopper").located(table=table)

        assert (quote.path, quote.start) == ("['name'][1]", 6)

    def test_a_file_that_has_changed_is_no_evidence(self, tmp_path):
        """Positions in it would be wrong."""
        path = tmp_path / "log.txt"
        path.write_text("before")
        log = TextFile(path)
        path.write_text("afterwards")

        with pytest.raises(ValueError, match="can no longer be read"):
            Quote(text="before").located(log=log)

    def test_cyclic_inputs_end(self):
        """A list that contains itself is searched once."""
        rows: list[Any] = ["one"]
        rows.append(rows)

        assert Quote(text="one").located(rows=rows).path == "[0]"


class TestBounds:
    def test_the_quotes_of_a_submission_share_one_allowance(self):
        """After it is used up, the message says what to do; a quote that was found before costs nothing."""
        searching = Searching(InputTexts({"doc": "x" * 1000}), most_chars=100_000)
        for length in range(1, 5):
            searching.quote("x" * length)

        with pytest.raises(NotInInputsError, match="too long a search; submit fewer of them"):
            searching.quote("x" * 5)
        assert searching.quote("x").start == 0

    def test_occurrences_are_counted_within_an_allowance_of_their_own(self):
        """Beyond it a quote is still located, without the count."""
        searching = Searching(InputTexts({"doc": "x" * 1000}), most_counted=1500)

        assert searching.quote("x").occurrences == 1000
        assert searching.quote("xx").occurrences is None

    def test_the_text_of_all_spans_is_bounded(self):
        """Each span of a list may be all of an input."""
        searching = Searching(InputTexts({"doc": "x" * 30_000_000}))
        searching.span("doc", 0, 30_000_000, lines=False)

        with pytest.raises(NotInInputsError, match="more than 50,000,000 characters together"):
            searching.span("doc", 0, 30_000_000, lines=False)

    def test_many_quotes_of_one_text_have_the_same_lines_as_few(self):
        """The starts of lines are listed after the first quotes."""
        doc = "".join(f"line {number}\n" for number in range(1, 101))
        searching = Searching(InputTexts({"doc": doc}))

        places = [searching.quote(f"ne {number}\n") for number in range(1, 101)]

        assert [(place.line, place.column) for place in places] == [(n, 3) for n in range(1, 101)]


class TestSpans:
    def test_characters(self):
        """Positions in, text and lines out."""
        span = submitted(span={"input": "doc", "start": 10, "end": 40})["span"]

        assert span.text == DOC[10:40]
        assert (span.line, span.last_line, span.path) == (2, 3, "")

    def test_lines(self):
        """Both included, without the last line's end; the positions of the result are characters."""
        span = submitted(span={"input": "doc", "start": 2, "end": 3, "lines": True})["span"]

        assert span.text == "The \u201cquick\u201d brown fox\njumps over the lazy dog."
        assert (span.start, span.end, span.lines) == (10, 56, False)
        assert DOC[span.start : span.end] == span.text

    @pytest.mark.parametrize(
        "value", [("pages[3]", 0, 6), ["pages[3]", 1, 1, True], '{"input": "pages[3]", "start": 0, "end": 6}']
    )  # fmt: skip
    def test_forms(self, value):
        """A tuple, a list, or JSON."""
        assert submitted(span=value)["span"].text == "a page"

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            (("doc", 5, 500), "5:500 is not a range of doc, which has 75 characters"),
            (("doc", -1, 5), "-1:5 is not a range"),
            (("doc", 5, 5), "5:5 is not a range"),
            (("doc", 1, 9, True), "lines 1 to 9 are not lines of doc, which has 5"),
            (("doc", 0, 1, True), "lines 0 to 1 are not lines"),
            (("doc", 5, 5, True), "lines 5 to 5 of doc are empty"),
            (("page", 0, 1), "'page' is not the name of an input; the inputs are doc, pages"),
            (
                ("pages", 0, 1),
                "pages has several texts; name one of them as the input, such as pages[1]",
            ),
            (("pages[9]", 0, 1), "pages[9] is no text of the inputs"),
        ],
    )
    def test_a_span_out_of_bounds_is_refused(self, value, reason):
        """With the bounds."""
        assert reason in problem(span=value)

    def test_the_text_that_the_lm_writes_is_replaced(self):
        """It may say anything."""
        span = submitted(span={"input": "doc", "start": 0, "end": 4, "text": "Lies"})["span"]

        assert span.text == "Line"


class TestModels:
    QUOTE = Quote(text="fox").located(doc=DOC)
    SPAN = Span(input="doc", start=0, end=4).located(doc=DOC)

    @pytest.mark.parametrize("value", [QUOTE, SPAN], ids=["quote", "span"])
    def test_saved_and_loaded(self, value):
        """JSON, pickles and copies keep the place; a model is frozen and hashable."""
        kind = type(value)

        assert kind.model_validate_json(value.model_dump_json()) == value
        assert kind.model_validate(value.model_dump()) == value
        assert pickle.loads(pickle.dumps(value)) == value
        assert copy.deepcopy(value) == value
        assert hash(value) == hash(copy.copy(value))
        with pytest.raises(pydantic.ValidationError):
            value.input = "other"

    def test_a_schema_has_only_what_the_lm_writes(self):
        """DSPy's adapters put it into prompts and into the format of replies."""
        quote, span = Quote.model_json_schema(), Span.model_json_schema()

        assert (list(quote["properties"]), quote["required"]) == (["text", "input"], ["text"])
        assert list(span["properties"]) == ["input", "start", "end", "lines"]

    def test_the_prompt_has_the_same(self):
        """In the line of the class."""
        assert class_lines([list[Quote], Span], ()) == [
            "Quote(text: str (verbatim from an input), input: str = '' (the name of the input))",
            "Span(input: str (the name of the input; its part as code writes it: docs[3]), start: int (first "
            "character, from 0), end: int (behind the last character), lines: bool = False (True: start and end "
            "are line numbers from 1, both included))",
        ]

    @pytest.mark.parametrize("adapter", [dspy.ChatAdapter(), dspy.JSONAdapter()])
    def test_dspy_predict_returns_them_unlocated(self, adapter):
        """`located` finds the place, or raises."""
        signature = dspy.Signature(
            "doc: str -> quotes: list[Quote], span: Span",
            custom_types={"Quote": Quote, "Span": Span},
        )
        reply = {
            "quotes": [{"text": "fox"}, {"text": "wolf"}],
            "span": {"input": "doc", "start": 0, "end": 4},
        }
        lm = dspy.utils.DummyLM([reply], adapter=adapter)

        with dspy.context(lm=lm, adapter=adapter):
            prediction = dspy.Predict(signature)(doc=DOC)

        assert not prediction.quotes[0].is_located
        assert prediction.quotes[0].located(doc=DOC).line == 2
        assert prediction.span.located(doc=DOC).text == "Line"
        with pytest.raises(ValueError, match="'wolf' is not verbatim"):
            prediction.quotes[1].located(doc=DOC)

    def test_a_prediction_with_quotes_is_plain_data(self):
        """Optimizers and journals write it as JSON."""
        prediction = dspy.Prediction(quote=self.QUOTE)

        dumped = json.loads(json.dumps(prediction.quote.model_dump()))

        assert dumped == {"text": "fox", "input": "doc", "path": "", "start": 28, "end": 31, "line": 2, "column": 19, "occurrences": 1}  # fmt: skip


class TestRuns:
    def test_a_quote_that_is_not_verbatim_is_an_observation(self):
        """The LM corrects it; extracted quotes are located as well."""
        signature = dspy.Signature("doc: str -> q: Quote, r: Quote", custom_types={"Quote": Quote})
        answers = Answers(signature, inputs={"doc": DOC})
        run = Run(signature, [], Budget(max_iterations=1), answers=answers)
        for _ in range(2):
            run.read(dspy.Prediction(reasoning="", code="SUBMIT(...)"))
            run.observe(Submitted({"q": "lazy dogs", "r": "fox"}, ""))

        run.keep_submitted()
        run.extract({"q": "lazy dogs"})
        problem = run.extraction.problem
        run.extract({"q": Quote(text="lazy dog")})

        assert "nearest passage is in doc, line 3: 'lazy dog" in run.steps[0].output
        assert problem.startswith("- q: 'lazy dogs' is not verbatim")
        assert (run.outputs["q"].line, run.outputs["r"].line) == (3, 2)

    def test_cells_and_sub_runs_submit_them(self, play):
        """A text, a dict, the class itself, and a quote that a sub-run found in its own input."""
        signature = dspy.Signature(
            "doc: str -> quotes: list[Quote], span: Span",
            custom_types={"Quote": Quote, "Span": Span},
        )
        rlm, server = play(
            signature,
            "if 'doc' in globals(): r = sub_rlm('part: str -> quote: Quote', part=doc[10:]); print(r.quote)\n"
            "else: SUBMIT('lazy')",
            "SUBMIT(['fox', {'text': 'dog'}, Quote(text='end', input='doc'), r.quote], Span('doc', 0, 4))",
        )
        rlm.sub_lm = server.lm("root")

        prediction = rlm(doc=DOC)

        assert [(one.text, one.line) for one in prediction.quotes] == [
            ("fox", 2), ("dog", 3), ("end", 4), ("lazy", 3),
        ]  # fmt: skip
        assert prediction.span.text == "Line"
        assert all(one.is_located for one in prediction.quotes)
        assert "Quote(text='lazy', input='part')" in prediction.trajectory[0]["output"]

    def test_a_typed_call_locates_in_its_own_inputs(self, play):
        """A quote that is not verbatim costs a retry of the sub-LM, with the reason, and no turn."""
        replies = iter(["lazy dogs", "lazy dog"])
        signature = dspy.Signature("doc: str -> quote: Quote", custom_types={"Quote": Quote})
        rlm, server = play(
            signature,
            "r = predict('text -> quote: Quote', text=doc[10:])\nSUBMIT(r.quote)",
            sub=fields(lambda _inputs: {"quote": {"text": next(replies)}}),
        )

        prediction = rlm(doc=DOC)

        assert (prediction.quote.text, prediction.quote.input, prediction.quote.line) == (
            "lazy dog",
            "doc",
            3,
        )
        assert len([call for call in prediction.run.sub_calls if call.kind == "predict"]) == 2
        assert "nearest passage is in text, line 2" in server.requests[-1].prompt


class TestSignatures:
    def test_a_text_may_name_them(self):
        """At any depth, where DSPy itself finds the outermost names of types only."""
        rlm = RLM("doc, at: Span -> quotes: list[Quote], by_name: dict[str, Quote | None]")

        assert rlm.signature.input_fields["at"].annotation is Span
        assert rlm.signature.output_fields["quotes"].annotation == list[Quote]
        assert rlm.signature.output_fields["by_name"].annotation == dict[str, Quote | None]

    def test_another_class_of_that_name_is_meant_where_it_is_defined(self):
        """The caller's own one, and its other classes."""

        class Span(pydantic.BaseModel):
            own: int

        rlm = RLM("doc -> spans: list[Span], facts: list[Fact], quote: Quote")

        assert rlm.signature.output_fields["spans"].annotation == list[Span]
        assert rlm.signature.output_fields["facts"].annotation == list[Fact]

    def test_fields_of_that_name_are_no_types(self):
        """And a text that is no signature is refused as ever."""
        assert list(RLM("Quote -> answer").signature.input_fields) == ["Quote"]
        with pytest.raises(SignatureError, match="is not a signature"):
            RLM("doc -> quote: Quote[")
