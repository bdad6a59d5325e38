"""Recognizes the errors by which servers refuse a prompt that is longer than the model's context window.

DSPy has a class for them, `ContextWindowExceededError`, but gives it to the errors of a few providers only. The
others are recognized by their text.
"""

from __future__ import annotations

import re

import dspy
from dspy import LMError

from sandbox_runtime.helpers import abridged

# The longest part of an error that is searched.
_SEARCHED_CHARS = 20_000

# The texts, in lower case, with the servers that send them and a place where each is documented or reported.
OVERFLOW_TEXTS = {
    # OpenAI, Azure, DeepSeek, Groq: the code of the error. https://platform.openai.com/docs/guides/error-codes
    "code": r"context_length_exceeded|model_max_prompt_tokens_exceeded",
    # OpenAI, Azure, vLLM, llama-cpp-python; xAI says "prompt", OpenRouter "endpoint".
    # https://github.com/vllm-project/vllm/issues/20409
    "maximum": r"maximum (?:context|prompt|input) (?:length|limit) (?:is|of)\b|model's maximum context limit",
    # OpenAI's Responses API, and its models of 2025.
    "openai": r"exceeds? the (?:context window|configured limit)",
    # Anthropic; Bedrock and LiteLLM's proxy repeat it. https://github.com/anthropics/claude-code/issues
    "anthropic": r"prompt is too long|exceeds? context limit",
    # Gemini; Vertex. https://github.com/google-gemini/gemini-cli/issues/4231
    "gemini": r"input token count.{0,40}exceeds the maximum|input token count is \d{1,12} but model only",
    # vLLM's engine. https://github.com/vllm-project/vllm/issues/12165, https://github.com/xorbitsai/inference/issues/3785
    "vllm": r"is longer than the maximum model length|too long to fit into the model|too long and exceeds limit of",
    # llama.cpp's server, and Lemonade. https://github.com/ggml-org/llama.cpp (`exceed_context_size_error`)
    "llama.cpp": r"exceeds the available context size|exceed_context_size_error",
    # llama-cpp-python.
    "llama-cpp-python": r"requested tokens \(\d{1,12}\) exceed context window",
    # Ollama. https://github.com/nano-step/nano-brain/issues/208
    "ollama": r"input length exceeds|input exceeds (?:the )?(?:maximum )?context length",
    # LM Studio. https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/546, .../issues/2339
    "lm studio": r"tokens when context the overflows|context size has been exceeded|reached context length of",
    # SGLang.
    "sglang": r"is longer than the model's context length|exceeds the model's maximum context length",
    # Mistral.
    "mistral": r"too large for model with \d{1,12} maximum context",
    # Bedrock.
    "bedrock": r"input is too long for requested model|too many input tokens",
    # Hugging Face's text-generation-inference, and Together.
    "tgi": r"`inputs` tokens \+ `max_new_tokens` must be|`inputs` must have less than",
    # Cerebras.
    "cerebras": r"current length is \d{1,12} while limit is",
    # OpenAI and Groq: a prompt above the tokens of a minute, which no waiting makes smaller.
    "tokens per minute": r"request too large for",
    # LiteLLM's proxy puts the name of its class before the text.
    "litellm": r"contextwindowexceedederror",
}

_OVERFLOW = re.compile("|".join(OVERFLOW_TEXTS.values()))


def is_overflow(error: LMError) -> bool:
    """Returns whether the server refused the prompt because it is longer than the model's context window."""
    if isinstance(error, dspy.ContextWindowExceededError):
        return True
    if isinstance(error, (dspy.LMAuthError, dspy.LMBillingError, dspy.LMNotConfiguredError)):
        return False
    text = f"{getattr(error, 'provider_code', None) or ''} {error}"
    return _OVERFLOW.search(abridged(text, _SEARCHED_CHARS).lower()) is not None
