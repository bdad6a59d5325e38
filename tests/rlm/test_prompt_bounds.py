"""Upper bounds of the tokens of a prompt, and of what they cost."""

from __future__ import annotations

import random

import dspy
import pydantic
import pytest

from dspy_rlm.budget.prices import Model, Seen, described
from dspy_rlm.budget.token_bounds import (
    TOKENS_A_REQUEST,
    TOKENS_AN_IMAGE,
    TOKENS_OF_TOOLS,
    Counted,
    Prompt,
    prompt_of,
)

GPT = {
    "input_cost_per_token": 1.0,
    "output_cost_per_token": 4.0,
    "input_cost_per_token_priority": 2.0,
    "input_cost_per_token_batches": 9.0,
    "input_cost_per_token_above_200k_tokens": 3.0,
    "output_cost_per_token_above_200k_tokens": 6.0,
    "output_cost_per_reasoning_token": 5.0,
    "cache_creation_input_token_cost": 1.25,
    "cache_creation_input_token_cost_above_1hr": 2.5,
    "max_output_tokens": 16_384,
}


class Answer(pydantic.BaseModel):
    """A schema that a request may ask for."""

    name: str
    numbers: list[int]


class TestPrompts:
    @pytest.mark.parametrize(
        ("text", "tokens"), [("abc", 3), ("\U0001f600", 4), ("ж中", 5), ("\ud800", 1)]
    )
    def test_a_token_has_a_byte_at_least(self, text, tokens):
        """A token has at least one byte of UTF-8; text that cannot be encoded counts too."""
        assert prompt_of(text, {}).bytes - TOKENS_A_REQUEST == tokens

    @pytest.mark.parametrize(
        "messages",
        [
            [{"role": "user", "content": "hello there"}],
            [{"role": "user", "content": [{"type": "text", "text": "hello there"}]}],
            [{"role": "assistant", "tool_calls": [{"function": {"arguments": "hello there"}}]}],
        ],
    )
    def test_all_text_of_messages_counts(self, messages):
        """All text in messages counts, at any position."""
        assert prompt_of(None, {"messages": messages}).bytes >= TOKENS_A_REQUEST + 16 + 11

    def test_so_does_what_goes_with_them(self):
        """Tools, schemas, stop sequences and all other options count."""
        plain = prompt_of("x", {}).bytes
        schema = Answer.model_json_schema()
        assert prompt_of("x", {"stop": ["y" * 500]}).bytes >= plain + 500
        assert prompt_of("x", {"tools": [{"name": "f" * 50}]}).bytes >= plain + TOKENS_OF_TOOLS + 50
        assert prompt_of("x", {"response_format": Answer}).bytes >= plain + 2 * len(str(schema))

    def test_keys_and_addresses_do_not(self):
        """Keys and addresses do not count, because they are not sent to the model."""
        assert prompt_of("x", {"api_key": "k" * 99, "api_base": "b" * 99}) == prompt_of("x", {})

    def test_an_image_does_not_count_by_its_bytes(self):
        """An image does not count by its bytes; audio does, at far less than one token per byte."""
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 10**6}}
        sound = {"type": "input_audio", "input_audio": {"data": "A" * 160_000, "format": "mp3"}}
        plain = prompt_of(None, {"messages": [{"role": "user", "content": []}]}).bytes
        for part, tokens in ((image, TOKENS_AN_IMAGE), (sound, 10_000)):
            counted = prompt_of(None, {"messages": [{"role": "user", "content": [part]}]}).bytes
            assert tokens <= counted - plain <= tokens + 10


class TestCounted:
    def test_lines_that_were_counted_are_not_counted_again(self):
        """Lines counted before keep their count in any order; new lines count by their bytes."""
        counted, first = Counted(), Prompt(("one line\nanother line\nthe end",))
        counted.learn("lm", 0, first, counted.bound("lm", 0, first), 9)

        assert counted.bound("lm", 0, Prompt(("the end\none line\nanother line",))) <= 10
        assert counted.bound("lm", 0, Prompt(("one line\nanother line\nnew\nthe end",))) <= 14
        assert counted.bound("lm", 1, first) == first.bytes + 1
        assert counted.bound("other", 0, first) == first.bytes + 1

    def test_a_line_that_stands_twice_counts_twice(self):
        """A line that occurs more often than in counted prompts counts for each further occurrence."""
        counted, first = Counted(), Prompt(("a long line\nb",))
        counted.learn("lm", 0, first, 20, 4)

        assert counted.bound("lm", 0, Prompt(("a long line\n" * 20,))) >= 19 * 12

    def test_our_own_text_counts_half(self):
        """Our own English text counts half; untrusted text counts in full, whatever it looks like."""
        counted, ours = Counted(), "Write Python code, and nothing else.\n" * 20
        counted.trust(ours)
        assert counted.bound("lm", 0, Prompt((ours,))) <= 0.6 * len(ours)
        stranger = ours.replace("else", "more")

        assert counted.bound("lm", 0, Prompt((stranger,))) >= len(stranger)

    def test_text_that_is_not_ascii_is_not_trusted(self):
        """A language without spaces may have a token for each of its characters, or more."""
        counted, ours = Counted(), "ж" * 100
        counted.trust(ours)

        assert counted.bound("lm", 0, Prompt((ours,))) >= 200

    def test_a_tokenizer_that_makes_more_is_believed(self):
        """If one prompt had more tokens than bytes, later bounds grow accordingly."""
        counted, first = Counted(), Prompt(("x" * 100,))
        counted.learn("lm", 0, first, counted.bound("lm", 0, first), 303)

        assert counted.bound("lm", 0, Prompt(("y" * 100,))) >= 300

    def test_long_prompts_take_no_time(self):
        """Beyond some megabytes lines are not compared, so long prompts take no time."""
        assert Prompt(("\n" * 3_000_000,)).lines is None


class TestPrices:
    def test_the_dearest_rate_counts_that_a_call_can_meet(self):
        """The highest rate that a call can meet counts; another tier or a batch only where requested."""
        model = Model(GPT)
        short, long = model.price(1000, {}), model.price(300_000, {})

        assert (short.input, short.output) == (1.25, 5.0)
        assert (long.input, long.output) == (3.0, 6.0)
        assert model.price(1000, {"service_tier": "priority"}).input == 2.0
        assert model.price(1000, {"prompt_cache": object()}).input == 2.5
        assert model.longest_reply == 16_384

    def test_half_a_price_is_none(self):
        """A price with one half missing, or of an unknown model, is no price."""
        assert Model({"input_cost_per_token": 1.0}).price(1, {}) is None
        assert described(dspy.LM("openai/nobody-knows-it", api_key="x")).price(1, {}) is None

    def test_dspys_table_is_asked(self):
        """Prices come from DSPy's table, in DSPy's way, before the call."""
        model = described(dspy.LM("openai/gpt-4o-mini", api_key="x"))

        assert model.price(10, {}).input > 0
        assert model.longest_reply

    def test_what_calls_usually_take(self):
        """The usual cost of a call is that of the dearest so far, in proportion to the prompt."""
        seen = Seen()
        seen.add(5, 1, 0.01, prompt_bound=100)
        seen.add(5, 9, 0.02, prompt_bound=200)

        assert seen.usual_cost(50) == 0.02
        assert seen.usual_cost(400) == 0.04
        assert seen.longest_reply == 9

    def test_calls_bound_the_price_whatever_it_is(self):
        """For any two prices, no call costs more than earlier calls allow."""
        dice = random.Random(7)
        for _ in range(200):
            a, b, seen = dice.random(), dice.random(), Seen()
            for _ in range(dice.randrange(1, 5)):
                tokens = dice.randrange(1, 500), dice.randrange(1, 500)
                seen.add(*tokens, a * tokens[0] + b * tokens[1])
            tokens = dice.randrange(0, 5000), dice.randrange(0, 5000)
            assert a * tokens[0] + b * tokens[1] <= seen.bound(*tokens) * (1 + 1e-9)
