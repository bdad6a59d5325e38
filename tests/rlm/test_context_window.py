"""A root LM whose context window is shorter than the prompt: the run goes on with a shorter history."""

from __future__ import annotations

import asyncio

import dspy
import pytest

from dspy_rlm import RunFailedError
from dspy_rlm.lms.context_window import is_overflow
from dspy_rlm.testing import Fault

LLAMA_CPP = (
    "request (23834 tokens) exceeds the available context size (2048 tokens), try increasing it"
)

# Texts of servers, as they were reported; see the sources in `context_window.py`.
OVERFLOWS = [
    LLAMA_CPP,
    "the request exceeds the available context size. try increasing the context size or enable context shift",
    "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
    "Your input exceeds the context window of this model. Please adjust your input and try again.",
    "Input tokens exceed the configured limit of 272000 tokens. Your messages resulted in 300000 tokens.",
    "prompt is too long: 215000 tokens > 200000 maximum",
    "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length",
    "The input token count (1054016) exceeds the maximum number of tokens allowed (1048576).",
    "Unable to submit request because the input token count is 1200000 but model only supports up to 1048576.",
    "The decoder prompt (length 21535) is longer than the maximum model length of 16384.",
    "The prompt (total length 25938) is too long to fit into the model (context length 4096).",
    "Requested tokens (2500) exceed context window of 2048",
    "the input length exceeds the context length",
    "Trying to keep the first 15857 tokens when context the overflows. However, the model is loaded with "
    "context length of only 4096 tokens, which is not enough.",
    "Context size has been exceeded.",
    "Requested token count exceeds the model's maximum context length of 32768 tokens.",
    "The input (40000 tokens) is longer than the model's context length (32768 tokens).",
    "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
    "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length",
    "This endpoint's maximum context length is 65536 tokens. However, you requested about 70000 tokens.",
    "Input is too long for requested model.",
    "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens",
    "Please reduce the length of the prompt. Current length is 9000 while limit is 8192",
    "Request too large for model `llama` on tokens per minute (TPM): Limit 6000, Requested 7000",
    "litellm.BadRequestError: litellm.ContextWindowExceededError: too much",
]
OTHERS = [
    "max_tokens: 21333 > 4096, which is the maximum allowed number of output tokens for this model",
    "max_tokens is too large: 40000. This model supports at most 16384 completion tokens.",
    "Rate limit reached on tokens per min (TPM): Limit 30000, Used 20000, Requested 15000.",
    "The model `x` does not exist or you do not have access to it.",
    "Invalid 'user': string too long. Expected a string with maximum length 64.",
    "This request would exceed your organization's rate limit.",
]


class TestTexts:
    @pytest.mark.parametrize("text", OVERFLOWS)
    @pytest.mark.parametrize("cls", [dspy.LMInvalidRequestError, dspy.LMServerError])
    def test_an_overflow_is_recognized(self, text, cls):
        """The text decides, in either case: servers send it with statuses from 400 to 500."""
        assert is_overflow(cls(text))
        assert is_overflow(cls(text.upper()))

    @pytest.mark.parametrize("text", OTHERS)
    def test_another_refusal_is_none(self, text):
        """A limit of replies or of rates is not the window; a shorter prompt would not help."""
        assert not is_overflow(dspy.LMInvalidRequestError(text))

    def test_classes_and_codes_count(self):
        """DSPy's class for it needs no text; an error's code does without one too."""
        coded = dspy.LMProviderError("no", provider_code="context_length_exceeded")

        assert is_overflow(dspy.ContextWindowExceededError(message="no"))
        assert is_overflow(coded)
        assert not is_overflow(dspy.LMAuthError(LLAMA_CPP))


def window(server, chars: int, *, text: str = LLAMA_CPP, status: int = 400) -> None:
    """Makes the root LM refuse prompts longer than these characters, as a server with a small window does."""
    fault = Fault(
        status=status, message=text, times=None, only=lambda request: len(request.prompt) > chars
    )
    server.fail("root", fault)


PRINTS = [f"print('{letter}' * 9000)" for letter in "abcde"]


class TestRuns:
    @pytest.mark.parametrize("is_async", [False, True])
    def test_a_run_goes_on_with_a_shorter_history(self, play, is_async):
        """All steps are taken though the full history is four times the window, and the LM is told why."""
        rlm, server = play("q -> a", *PRINTS, "SUBMIT('done')")
        window(server, 20_000)
        prediction = asyncio.run(rlm.acall(q="x")) if is_async else rlm(q="x")

        assert prediction.a == "done"
        assert prediction.run.status == "submitted"
        assert prediction.run.overflows == prediction.run.dump()["overflows"] > 0
        assert [len(step.output) for step in prediction.run.steps[:5]] == [9000] * 5
        accepted = [r.prompt for r in server.requests if len(r.prompt) <= 20_000]
        assert len(accepted) == 6
        assert "to fit into your context window" in accepted[-1]
        assert "context window" not in accepted[0]

    def test_few_requests_are_refused(self, play):
        """Each refusal shortens the history by a good part, so that a run does not creep along its window."""
        rlm, server = play("q -> a", *PRINTS * 2, "SUBMIT('done')")
        window(server, 20_000)
        prediction = rlm(q="x")

        assert prediction.a == "done"
        assert prediction.run.overflows <= 8

    def test_outputs_are_extracted_when_no_turn_fits(self, play):
        """The extraction's prompt is shorter than a turn's, since it has no contract."""
        rlm, server = play("q -> n: int", *["print('a' * 900)"] * 4, extracted={"n": 4})
        rlm(q="x")
        turns = [len(r.prompt) for r in server.requests]
        window(server, turns[1] - 500)
        prediction = rlm(q="y")

        assert prediction.n == 4
        assert prediction.run.status == "extracted"
        assert prediction.run.stopped_by == "context_window"
        assert "context window" in prediction.final_reasoning

    def test_a_window_for_no_prompt_ends_the_run(self, play):
        """The first prompt is shortened as far as it goes; then the error is the caller's."""
        rlm, server = play("q -> a", "SUBMIT('done')")
        window(server, 10)
        with pytest.raises(RunFailedError) as caught:
            rlm(q="x" * 10_000)

        assert is_overflow(caught.value.__cause__)
        assert len(server.requests) < 8

    def test_another_error_ends_the_run_at_once(self, play):
        """Only an overflow is answered by shortening."""
        rlm, server = play("q -> a", "print(1)", "SUBMIT('done')")
        server.fail("root", Fault(status=400, message="no such thing", times=None, after=1))
        with pytest.raises(RunFailedError) as caught:
            rlm(q="x")

        assert caught.value.run.iterations == 1
        assert caught.value.run.overflows == 0
        assert len(server.requests) == 2

    def test_the_extraction_is_shortened_too(self, play):
        """The turns are used up, and the history overflows only then."""
        rlm, server = play("q -> n: int", *PRINTS, extracted={"n": 4}, max_iterations=5)
        server.fail("root", Fault(status=400, message=LLAMA_CPP, after=5))
        prediction = rlm(q="x")

        assert prediction.n == 4
        assert prediction.run.stopped_by == "max_iterations"
        assert prediction.run.overflows == 1
