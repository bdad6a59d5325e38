"""Rule-based sub-LMs: patterns, replies, and errors for unmatched prompts."""

from __future__ import annotations

import re

import openai
import pytest
from dspy.utils.exceptions import LMError

from dspy_rlm.testing import rules


def ask(serve, player, *prompts):
    lm = serve(sub=player).lm("sub")
    return [lm(prompt)[0] for prompt in prompts]


class TestRules:
    """`rules` plays plain prompts."""

    def test_the_first_match_answers(self, serve):
        """Rules are tried in order, on any part of the prompt."""
        player = rules([("ERROR", "bad"), ("disk|ERROR", "storage")], default="fine")

        assert ask(serve, player, "an ERROR on disk", "the disk", "all is well") == [
            "bad",
            "storage",
            "fine",
        ]

    def test_a_reply_may_use_the_match(self, serve):
        """A function gets the regular expression's match."""
        player = rules([(r"(\d+) \+ (\d+)", lambda m: str(int(m[1]) + int(m[2])))])

        assert ask(serve, player, "What is 2 + 40?") == ["42"]

    def test_a_pattern_keeps_its_flags(self, serve):
        """Compiled patterns are taken as they are."""
        player = rules([(re.compile("error", re.IGNORECASE), "bad")], default="fine")

        assert ask(serve, player, "ERROR") == ["bad"]

    def test_a_condition_may_be_a_predicate(self, serve):
        """A predicate and its reply both get the whole text."""
        player = rules([(lambda text: len(text) > 5, str.upper)], default=str.title)

        assert ask(serve, player, "longer", "short") == ["LONGER", "Short"]

    def test_a_reply_is_no_template(self, serve):
        """Backslashes and braces in a reply are sent as they are."""
        assert ask(serve, rules([("(a)", r"\1 {0}")]), "a") == [r"\1 {0}"]

    def test_the_last_user_message_counts(self, serve):
        """System messages and earlier turns match no rule."""
        server = serve(sub=rules([("secret", "seen")], default="unseen"))
        client = openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0)
        messages = [
            {"role": "system", "content": "secret"},
            {"role": "user", "content": "secret"},
            {"role": "assistant", "content": "secret"},
            {"role": "user", "content": "hello"},
        ]

        with client:
            reply = client.chat.completions.create(model="sub", messages=messages)

        assert reply.choices[0].message.content == "unseen"

    def test_no_match_is_an_error(self, serve):
        """Without a default, an unmatched prompt is an error that shows the prompt to the caller."""
        with pytest.raises(LMError, match="NoPlayerError: No rule matches this prompt: 'hello'"):
            ask(serve, rules([("x", "y")]), "hello")

    def test_a_wrong_pattern_is_told_at_once(self):
        """A rule's mistake shows where it is written, not at the first prompt."""
        with pytest.raises(re.error):
            rules([("(", "y")])
