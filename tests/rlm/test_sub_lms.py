"""Whom sub-calls ask, and what is sent: named sub-LMs, and images, audio and files."""

from __future__ import annotations

import json

import dspy
import pytest

from dspy_rlm import RLM, SignatureError
from dspy_rlm.testing import Action, PolicyServer, fields, rules, scripted

PIXEL = dspy.Image("data:image/png;base64,iVBORw0KGgo=")
SOUND = dspy.Audio(data="UklGRg==", audio_format="wav")
PAPER = dspy.File.from_bytes(b"%PDF-1.7", filename="paper.pdf", mime_type="application/pdf")


def outputs(prediction):
    return [step["output"] for step in prediction.trajectory]


def sent_parts(exchange):
    """Returns the content of the last message as sent."""
    return exchange.request.raw["messages"][-1]["content"]


class TestNamedModels:
    @pytest.fixture
    def server(self):
        code = (
            "SUBMIT([sub_llm('?'), sub_llm('?', model='vision'), *sub_llm_batched(['?'], model='mini'), "
            "predict('q -> a', q=q, model='vision').a, predict_batched('q -> a', ['x'])[0].a])"
        )
        models = {
            "root": scripted(Action("", code)),
            "a": lambda r: "a" if "[[ ##" not in r.prompt else "[[ ## a ## ]]\na typed",
            "b": lambda r: "b" if "[[ ##" not in r.prompt else "[[ ## a ## ]]\nb typed",
        }
        with PolicyServer(models) as server, dspy.context(lm=server.lm("root")):
            yield server

    def test_code_picks_one_by_name(self, server, kept):
        """Code selects a sub-LM by name; the first is the default, and the contract lists them with descriptions."""
        sub_lm = {"mini": server.lm("a"), "vision": (server.lm("b"), "reads images")}
        result = RLM("q -> answer: list", sub_lm=sub_lm, pool=kept)(q="?")

        assert result.answer == ["a", "b", "a", "b typed", "a typed"]
        assert [(u.model, u.calls) for u in result.run.usage] == [
            ("openai/a", 3),
            ("openai/b", 2),
            ("openai/root", 1),
        ]
        assert (
            "- Sub-LMs, for `model=` of the functions above (default: 'mini'):\n"
            in server.requests[0].messages[0].text.replace("\n        ", "\n")
        )
        assert "    - 'vision': reads images" in server.requests[0].messages[0].text

    def test_an_unknown_name_is_told_with_those_that_there_are(self, play):
        """An unknown name is refused with the available ones, before any LM call."""
        rlm, server = play("q -> answer", "sub_llm('?', model='large')", "SUBMIT('')")
        rlm.sub_lm = {"mini": server.lm("sub"), "vision": server.lm("sub")}
        message = outputs(rlm(q=""))[0]

        assert "There is no model 'large'. The models are: mini, vision." in message
        assert not server.requests_to("sub")

    @pytest.mark.parametrize(
        ("sub_lm", "error_text"),
        [
            ({}, "sub_lm is empty"),
            ({"": "x"}, "needs a name"),
            ({"a": "gpt"}, "must be a dspy.LM"),
            ({"a": ("gpt", "x")}, "must be a dspy.LM"),
        ],
    )
    def test_what_is_no_lm_is_refused_by_the_constructor(self, sub_lm, error_text):
        """A value that is not an LM is refused by the constructor, with its name."""
        with pytest.raises(SignatureError, match=error_text):
            RLM("q -> a", sub_lm=sub_lm)


class TestMedia:
    def test_handles_are_sent_as_what_they_stand_for(self, play):
        """Images, audio and files become content parts behind the prompt."""
        rlm, server = play(
            "image: dspy.Image, sound: dspy.Audio, paper: dspy.File -> answer: str",
            "SUBMIT(sub_llm('What is it?', image, sound, paper))",
            sub=rules([("What is it", "a pixel")]),
        )

        assert rlm(image=PIXEL, sound=SOUND, paper=PAPER).answer == "a pixel"
        text, *parts = sent_parts(server.requests_to("sub")[0])
        assert text == {"type": "text", "text": "What is it?"}
        assert json.dumps(parts) == json.dumps(
            [
                {"type": "image_url", "image_url": {"url": PIXEL.url}},
                {"type": "input_audio", "input_audio": {"data": SOUND.data, "format": "wav"}},
                {
                    "type": "file",
                    "file": {"file_data": PAPER.file_data, "filename": "paper.pdf"},
                },
            ]
        )

    def test_batches_have_media_too(self, play):
        """A prompt in a batch may be a tuple with media; equal text with the same image is one prompt."""
        rlm, server = play(
            "images: list[dspy.Image] -> answer: list[str]",
            "SUBMIT(sub_llm_batched([('What?', image) for image in images] + [('What?', images[0])]))",
            sub=rules([], default="x"),
        )
        other = dspy.Image("data:image/png;base64,AAAA")

        assert rlm(images=[PIXEL, other]).answer == ["x"] * 3
        urls = [sent_parts(e)[1]["image_url"]["url"] for e in server.requests_to("sub")]
        assert sorted(urls) == sorted([PIXEL.url, other.url])

    def test_a_typed_call_takes_an_image(self, play):
        """A typed call accepts an image, whether declared in the signature or not."""
        rlm, server = play(
            "image: dspy.Image -> answer: list[int]",
            "SUBMIT([predict('scan: dspy.Image -> n: int', scan=image).n, "
            "predict({'n': int}, scan=image).n])",
            sub=fields(lambda _: {"n": 2}),
        )

        assert rlm(image=PIXEL).answer == [2, 2]
        for exchange in server.requests_to("sub"):
            kinds = [part["type"] for part in sent_parts(exchange)]
            assert "image_url" in kinds

    def test_sampling_options_of_the_lm_hold_for_media(self, play):
        """A prompt with parts is sent like one without."""
        rlm, server = play(
            "image: dspy.Image -> answer: str",
            "SUBMIT(sub_llm('What?', image))",
            sub=rules([], default="x"),
        )
        rlm.sub_lm = server.lm("sub", temperature=0.5, max_tokens=77)
        rlm(image=PIXEL)
        raw = server.requests_to("sub")[0].request.raw

        assert (raw["temperature"], raw["max_completion_tokens"]) == (0.5, 77)


class TestOneSubLM:
    def test_the_name_of_a_model_is_an_lm(self):
        """`sub_lm="openai/..."` is `dspy.LM("openai/...")`, in the constructor and as an attribute."""
        rlm = RLM("q -> a", sub_lm="openai/gpt-4o-mini")

        assert isinstance(rlm.sub_lm, dspy.LM)
        assert rlm.sub_lm.model == "openai/gpt-4o-mini"
        rlm.sub_lm = "openai/gpt-5-mini"
        assert rlm._config.models.default.model == "openai/gpt-5-mini"

    @pytest.mark.parametrize("sub_lm", [[dspy.LM("openai/x")], dspy.LM, 5, "", "openai/", object()])
    def test_anything_else_is_refused_by_the_constructor(self, sub_lm):
        """A list, a class or an incomplete name is no LM; the message says what is."""
        with pytest.raises(SignatureError, match="sub_lm"):
            RLM("q -> a", sub_lm=sub_lm)
