"""Reads the errors of LM servers: the right class, one line of text with what to do, and whether it is permanent.

Servers say the same thing with different statuses: a wrong key is 400 at Gemini, an unknown model 400 at LiteLLM's
proxy, a used-up quota 429 at OpenAI. DSPy classifies by status and code; this module adds the texts. No I/O.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from dspy import (
    ContextWindowExceededError,
    LMAuthError,
    LMBillingError,
    LMError,
    LMInvalidRequestError,
    LMNotConfiguredError,
    LMRateLimitError,
    LMServerError,
    LMTimeoutError,
    LMTransportError,
    LMUnsupportedModelError,
    is_retryable_lm_error,
)

from dspy_rlm.lms.context_window import is_overflow
from sandbox_runtime.helpers import abridged

# The longest text of a server's error that is kept.
MAX_TEXT_CHARS = 1_500

_KEY = "Check the api_key of this LM, and that it may use the model"
_MODEL = "Check the name of the model; a local server must have it loaded"
_MONEY = "Add credit, or raise the limit of the key"
_MEMORY = "Use a smaller model or a shorter context on this server"
_ADDRESS = "Check api_base: most servers expect it to end with /v1"
_LOG = "The process of the model has ended: see the log of this server"
_REGION = "This provider does not answer requests from your region"
_LATER = "Wait, or lower max_concurrency"

_ADVICE: tuple[tuple[type[LMError], str], ...] = (
    (LMAuthError, _KEY),
    (LMUnsupportedModelError, _MODEL),
    (LMBillingError, _MONEY),
    (LMRateLimitError, _LATER),
    (LMTimeoutError, "Raise timeout= of dspy.LM, or ask for less"),
)

# Parts of the texts of DSPy's native client.
_TIMED_OUT_TEXT = "read timed out"
_NO_JSON_TEXT = ") is not JSON: "

NOT_FOUND = 404

# Gateways such as OpenRouter send errors with status 200 and the real one in the body, for replies that they stream.
_BY_CODE: dict[str, type[LMError]] = {
    "401": LMAuthError,
    "402": LMBillingError,
    "403": LMAuthError,
    "408": LMTimeoutError,
    "429": LMRateLimitError,
}

_PERMANENT = (LMAuthError, LMNotConfiguredError, LMUnsupportedModelError, LMBillingError)


@dataclasses.dataclass(frozen=True)
class Rule:
    """The meaning of an error of a server."""

    texts: tuple[str, ...]
    """Lower-case parts of its text or code, all of which it has."""

    cls: type[LMError]
    advice: str = ""
    """The remedy, if it differs from that of the class."""

    answered: bool = False
    """True if the server may have charged for the request, although the class says that it refused it."""

    permanent: bool = False
    """True if every call of this LM fails, although the class does not say so."""

    passing: bool = False
    """True if it concerns one prompt or a moment, although the class says that it is permanent."""


# A gateway whose server is gone for a moment answers so. A wrong api_base looks the same, but is not found by waiting.
_GATEWAY = Rule((), LMServerError, f"If it stays so: {_ADDRESS[0].lower()}{_ADDRESS[1:]}")

# The native client's own errors: a reply that is no JSON, and no byte within the time.
_NO_JSON = Rule((), LMServerError, "The reply was not complete", answered=True)
_TIMED_OUT = Rule((), LMTimeoutError)

_TOO_LONG = Rule(
    (), ContextWindowExceededError, "The prompt is longer than the context window of this model"
)

# The first rule that fits applies. Sources: the error pages of OpenAI (platform.openai.com/docs/guides/error-codes),
# Anthropic (docs.anthropic.com/en/api/errors), Gemini (ai.google.dev/gemini-api/docs/troubleshooting), Azure
# (learn.microsoft.com/azure/ai-services/openai), OpenRouter (openrouter.ai/docs/api-reference/errors); the sources of
# vLLM, llama.cpp (tools/server), Ollama (server/routes.go), LM Studio's bug tracker, LiteLLM (proxy/auth).
RULES: tuple[Rule, ...] = (
    # One prompt, or a moment.
    Rule(("flagged",), LMInvalidRequestError, "The server refuses the content of this prompt"),  # OpenRouter, 403
    Rule(("content_filter",), LMInvalidRequestError, "The server refuses the content of this prompt"),  # Azure
    Rule(("content management policy",), LMInvalidRequestError, "The server refuses the content of this prompt"),
    Rule(("content filtering policy",), LMInvalidRequestError, "The server refuses the content of this prompt"),  # Anthropic
    Rule(("contentpolicyviolation",), LMInvalidRequestError, "The server refuses the content of this prompt"),  # LiteLLM
    Rule(("loading model",), LMServerError, "Wait until the server has loaded the model"),  # llama.cpp, 503
    Rule(("exceeded your current quota", "retry in"), LMRateLimitError),  # Gemini's limit a minute
    # The program itself: an exception of a player of `dspy_rlm.testing`, which another try meets again.
    Rule(("player_error",), LMInvalidRequestError, "Correct the player of this model"),
    # Money.
    Rule(("insufficient_quota",), LMBillingError),  # OpenAI, 429
    Rule(("exceeded your current quota", "billing details"), LMBillingError),  # OpenAI, Gemini
    Rule(("billing_not_active",), LMBillingError),  # OpenAI, 401
    Rule(("credit balance is too low",), LMBillingError),  # Anthropic, 400
    Rule(("insufficient credits",), LMBillingError),  # OpenRouter, 402
    Rule(("budget has been exceeded",), LMBillingError),  # LiteLLM's proxy, 400 and 429
    Rule(("budget_exceeded",), LMBillingError),
    Rule(("exceededbudget",), LMBillingError),
    Rule(("exceededtokenbudget",), LMBillingError),
    Rule(("key limit exceeded",), LMBillingError),  # OpenRouter, 403
    Rule(("crossed budget",), LMBillingError),  # LiteLLM's budget of a deployment, 429
    # Keys.
    Rule(("api key not valid",), LMAuthError),  # Gemini, 400
    Rule(("api key expired",), LMAuthError),  # Gemini, 400
    Rule(("api_key_invalid",), LMAuthError),
    Rule(("invalid_api_key",), LMAuthError),
    Rule(("invalid subscription key",), LMAuthError),  # Azure, 401
    Rule(("authentication error", "key"), LMAuthError),  # LiteLLM's proxy, 400 and 401
    Rule(("key not allowed to access model",), LMAuthError),  # LiteLLM's proxy
    Rule(("key_model_access_denied",), LMAuthError),
    Rule(("no connected db",), LMAuthError),  # LiteLLM's proxy without a database, 400: it knows the master key only
    # Machines that the model does not fit on.
    Rule(("failed to load model", "insufficient system resources"), LMServerError, _MEMORY, permanent=True),  # LM Studio
    # Models.
    Rule(("invalid model name",), LMUnsupportedModelError),  # LiteLLM's proxy, 400
    Rule(("no models loaded",), LMUnsupportedModelError),  # LM Studio
    Rule(("model_not_found",), LMUnsupportedModelError),  # OpenAI, LM Studio
    Rule(("deploymentnotfound",), LMUnsupportedModelError),  # Azure, 404
    Rule(("api deployment for this resource does not exist",), LMUnsupportedModelError),
    Rule(("the model ", "does not exist"), LMUnsupportedModelError),  # OpenAI, vLLM, 404
    Rule(("model ", "not found, try pulling it"), LMUnsupportedModelError),  # Ollama, 404
    Rule(("model ", " not found"), LMUnsupportedModelError),  # Ollama's OpenAI endpoint
    Rule(("models/", "is not found for api version"), LMUnsupportedModelError),  # Gemini, 404
    Rule(("not_found_error", "model:"), LMUnsupportedModelError),  # Anthropic, 404
    Rule(("llm provider not provided",), LMUnsupportedModelError),  # LiteLLM
    Rule(("is not a valid model id",), LMUnsupportedModelError),  # OpenRouter, 400
    Rule(("no endpoints found for",), LMUnsupportedModelError),  # OpenRouter, 404
    # Machines and addresses.
    Rule(("requires more system memory",), LMServerError, _MEMORY, permanent=True),  # Ollama, 500
    Rule(("does not support chat completions",), LMInvalidRequestError, _MODEL, permanent=True),  # llama.cpp, 501
    Rule(("unexpected endpoint or method",), LMInvalidRequestError, _ADDRESS, permanent=True),  # LM Studio, 200
    Rule(("does not support chat",), LMInvalidRequestError, _MODEL, permanent=True),  # Ollama, 400
    Rule(("cuda error: out of memory",), LMServerError, _MEMORY),  # Ollama, llama.cpp
    Rule(("llama runner process",), LMServerError, _LOG),  # Ollama, 500
    Rule(("model has crashed",), LMServerError, _LOG),  # LM Studio, 400
    Rule(("model unloaded",), LMServerError, "Load the model again on this server"),  # LM Studio, 400
    Rule(("user location is not supported",), LMInvalidRequestError, _REGION, permanent=True),  # Gemini, 400
    Rule(("resource not found",), LMInvalidRequestError, _ADDRESS, permanent=True),  # Azure, 404
    Rule(("file not found",), LMInvalidRequestError, _ADDRESS, permanent=True),  # llama.cpp, 404
    Rule(("404 page not found",), LMInvalidRequestError, _ADDRESS, permanent=True),  # Ollama, Go's router
    Rule(("max parallel request",), LMRateLimitError),  # LiteLLM's proxy
    Rule(("overloaded",), LMServerError, "The provider is overloaded: try later"),  # Anthropic 529, Gemini, OpenAI
)  # fmt: skip


def read_fault(error: LMError) -> LMError:
    """Returns the error itself, with the class and the text that its server means by it. Idempotent."""
    if hasattr(error, "permanent"):
        return error
    is_gateway = _is_not_found(error)
    text, rule = _text(error), _TOO_LONG if is_overflow(error) else _rule(error)
    is_gateway = is_gateway and rule is None
    if is_gateway:
        rule = _GATEWAY
    cls = rule.cls if rule else _BY_CODE.get(_code(error))
    if cls is not None and not isinstance(error, cls):
        error.__class__ = cls
    advice = (rule.advice if rule else "") or _class_advice(error)
    changed = cast("Any", error)
    changed.permanent = isinstance(error, _PERMANENT) or bool(rule and rule.permanent)
    changed.pauses_run = is_gateway
    changed.was_answered = bool(rule and rule.answered)
    line = f"{text.rstrip('. ')}. {advice}." if advice else text
    changed.message = line
    error.args = (f"[{error.model}] {line}" if error.model else line,)
    return error


def is_permanent(error: BaseException) -> bool:
    """Returns whether every call of the LM will fail like this one: a wrong key, an unknown model, no credit."""
    return isinstance(error, LMError) and bool(getattr(read_fault(error), "permanent", False))


def is_passing(error: BaseException) -> bool:
    """Returns whether another try may succeed: the server, its gateway or the connection failed."""
    return (
        isinstance(error, LMError)
        and not is_permanent(error)
        and is_retryable_lm_error(read_fault(error))
    )


def pauses_run(error: BaseException) -> bool:
    """Returns whether an error that is still there after the last try ends a run, of whatever LM it is."""
    return isinstance(error, LMError) and bool(getattr(read_fault(error), "pauses_run", False))


def is_of_concurrency(error: LMError) -> bool:
    """Returns whether a server refused a call because of the number of calls at once, or may have."""
    return isinstance(error, LMRateLimitError) and not is_permanent(error)


def is_of_connection(error: LMError) -> bool:
    """Returns whether there was no server at the address, or it went away; one that was too slow is there."""
    return isinstance(read_fault(error), LMTransportError)


def _is_not_found(error: LMError) -> bool:
    """Returns whether the error is a bare 404."""
    return type(error) is LMInvalidRequestError and error.status == NOT_FOUND


def _rule(error: LMError) -> Rule | None:
    if isinstance(error, LMTransportError) and _TIMED_OUT_TEXT in str(error.message or error):
        return _TIMED_OUT
    if isinstance(error, (LMTransportError, LMNotConfiguredError)):
        return None  # not a server's words
    if _NO_JSON_TEXT in str(error.message or ""):
        return _NO_JSON
    words = f"{error.provider_code or ''}\n{error.message or error}".lower()
    for rule in RULES:
        if all(text in words for text in rule.texts):
            return rule
    return None


def _code(error: LMError) -> str:
    """Returns the status that the body of a reply with status 200 states, or ""."""
    return str(error.provider_code or "") if error.status in (None, 200) else ""


def _class_advice(error: LMError) -> str:
    return next((advice for cls, advice in _ADVICE if isinstance(error, cls)), "")


def _text(error: LMError) -> str:
    """Returns the text of the server in one line, without DSPy's paragraph of advice below it."""
    first = str(error.message or "").partition("\n\n")[0]
    if _TIMED_OUT_TEXT in first:
        first = first.partition(";")[0]  # then come the client's own settings
    if first.lstrip()[:1] == "<":
        title = first.partition("<title>")[2].partition("</title>")[0]
        first = f"an HTML page of a gateway, HTTP {error.status}: {title}"
    return (
        " ".join(abridged(first, MAX_TEXT_CHARS).split()) or f"HTTP {error.status}, without a text"
    )


def error_in_reply(response: Any) -> LMServerError | None:
    """Returns the error that a reply with status 200 has in place of an answer; None for an answer.

    LM Studio answers so to an unknown path, and OpenRouter when the provider behind it failed.
    """
    body = getattr(response, "provider_data", None)
    if not isinstance(body, Mapping):
        return None
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    found = body.get("error") or (first.get("error") if isinstance(first, Mapping) else None)
    if not found:
        return None
    details = found if isinstance(found, Mapping) else {"message": found}
    code = details.get("code")
    return LMServerError(
        str(details.get("message") or "the server gave an error in place of an answer"),
        model=getattr(response, "model", None),
        provider_code=None if code is None else str(code),
        status=200,
    )
