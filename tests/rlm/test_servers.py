"""The errors of LM servers, in their own words: the class, what to do, and the number of requests.

The bodies are those of the servers' documentation and sources; see `dspy_rlm.lms.faults`.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import dspy
import pytest

from dspy_rlm import RLM, RunFailedError
from dspy_rlm.dspy_internals.credentials import check_key
from dspy_rlm.lms.faults import RULES, is_permanent, read_fault
from dspy_rlm.testing import Action, Fault, PolicyServer, scripted
from sandbox_runtime import Pool


def openai(message: str, kind: str = "invalid_request_error", code: Any = None) -> str:
    """An error as OpenAI and compatible servers write it."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}})


def anthropic(kind: str, message: str) -> str:
    """An error as Anthropic writes it."""
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}})


def google(code: int, status: str, message: str) -> str:
    """An error as Gemini writes it."""
    return json.dumps({"error": {"code": code, "message": message, "status": status}})


class Case(NamedTuple):
    """An answer of a server, and what it means."""

    server: str
    status: int
    body: str
    cls: type[Exception]
    permanent: bool
    advice: str


AUTH, MODEL, MONEY = dspy.LMAuthError, dspy.LMUnsupportedModelError, dspy.LMBillingError
LIMIT, DOWN, BAD = dspy.LMRateLimitError, dspy.LMServerError, dspy.LMInvalidRequestError
KEY, NAME, CREDIT, LATER = "api_key", "name of the model", "Add credit", "max_concurrency"

CASES = [
    Case("openai", 401, openai("Incorrect API key provided: sk-x. You can find your API key at https://x.", code="invalid_api_key"), AUTH, True, KEY),
    Case("openai", 403, openai("Country, region, or territory not supported", code="unsupported_country_region_territory"), AUTH, True, KEY),
    Case("openai", 404, openai("The model `gpt-9` does not exist or you do not have access to it.", code="model_not_found"), MODEL, True, NAME),
    Case("openai", 429, openai("You exceeded your current quota, please check your plan and billing details.", "insufficient_quota", "insufficient_quota"), MONEY, True, CREDIT),
    Case("openai", 429, openai("Rate limit reached for gpt-4o in organization org-x on requests per min (RPM): Limit 3. Please try again in 20s.", "requests", "rate_limit_exceeded"), LIMIT, False, LATER),
    Case("openai", 503, openai("The engine is currently overloaded, please try again later", "server_error"), DOWN, False, "try later"),
    Case("openai", 400, openai("Invalid prompt: your prompt was flagged as potentially violating our usage policy."), BAD, False, "content of this prompt"),
    Case("anthropic", 401, anthropic("authentication_error", "invalid x-api-key"), AUTH, True, KEY),
    Case("anthropic", 403, anthropic("permission_error", "Your API key does not have permission to use the specified resource."), AUTH, True, KEY),
    Case("anthropic", 404, anthropic("not_found_error", "model: claude-9"), MODEL, True, NAME),
    Case("anthropic", 400, anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."), MONEY, True, CREDIT),
    Case("anthropic", 529, anthropic("overloaded_error", "Overloaded"), DOWN, False, "try later"),
    Case("gemini", 400, google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."), AUTH, True, KEY),
    Case("gemini", 404, google(404, "NOT_FOUND", "models/gemini-9 is not found for API version v1beta, or is not supported for generateContent."), MODEL, True, NAME),
    Case("gemini", 429, google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details. Please retry in 34.07s."), LIMIT, False, LATER),
    Case("gemini", 503, google(503, "UNAVAILABLE", "The model is overloaded. Please try again later."), DOWN, False, "try later"),
    Case("azure", 401, json.dumps({"error": {"code": "401", "message": "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription."}}), AUTH, True, KEY),
    Case("azure", 404, json.dumps({"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}}), MODEL, True, NAME),
    Case("azure", 400, openai("The response was filtered due to the prompt triggering Azure OpenAI's content management policy.", code="content_filter"), BAD, False, "content of this prompt"),
    Case("azure", 429, json.dumps({"error": {"code": "429", "message": "Requests to the ChatCompletions_Create Operation have exceeded call rate limit of your current pricing tier. Please retry after 10 seconds."}}), LIMIT, False, LATER),
    Case("vllm", 404, openai("The model `qwen` does not exist.", "NotFoundError", 404), MODEL, True, NAME),
    Case("vllm", 401, json.dumps({"error": "Unauthorized"}), AUTH, True, KEY),
    Case("llama.cpp", 401, openai("Invalid API Key", "authentication_error", 401), AUTH, True, KEY),
    Case("llama.cpp", 503, openai("Loading model", "unavailable_error", 503), DOWN, False, "has loaded the model"),
    Case("ollama", 404, openai("model 'qwen' not found", "not_found_error"), MODEL, True, NAME),
    Case("ollama", 404, openai('model "qwen" not found, try pulling it first', "api_error"), MODEL, True, NAME),
    Case("ollama", 500, openai("model requires more system memory (8.0 GiB) than is available (5.0 GiB)", "api_error"), DOWN, True, "smaller model"),
    Case("ollama", 404, "404 page not found", BAD, True, "end with /v1"),
    Case("lm studio", 404, openai("No models loaded. Please load a model in the developer page or use the 'lms load' command.", code="model_not_found"), MODEL, True, NAME),
    Case("litellm", 401, openai("Authentication Error, Invalid proxy server token passed. Received API Key = sk-...x", "auth_error", "401"), AUTH, True, KEY),
    Case("litellm", 400, openai("Authentication Error, No api key passed in.", "auth_error", "400"), AUTH, True, KEY),
    Case("litellm", 400, openai("No connected db.", "no_db_connection", "400"), AUTH, True, KEY),
    Case("litellm", 400, openai("/chat/completions: Invalid model name passed in model=gpt. Call `/v1/models` to view available models for your key.", "None", "400"), MODEL, True, NAME),
    Case("litellm", 403, openai("key not allowed to access model. This key can only access models=['a']. Tried to access b", "key_model_access_denied", "403"), AUTH, True, KEY),
    Case("litellm", 400, openai("Budget has been exceeded! Current cost: 0.02, Max budget: 0.01", "budget_exceeded", "400"), MONEY, True, CREDIT),
    Case("litellm", 429, openai("No deployments available for selected model. Passed model=x. Deployment crossed budget: 0.0004", "None", "429"), MONEY, True, CREDIT),
    Case("litellm", 429, openai("Max parallel request limit reached. Limit type: max_parallel_requests", "None", "429"), LIMIT, False, LATER),
    Case("lm studio", 200, json.dumps({"error": "Unexpected endpoint or method. (POST /chat/completions)"}), BAD, True, "end with /v1"),
    Case("openrouter", 200, json.dumps({"error": {"code": 401, "message": "No auth credentials found"}}), AUTH, True, KEY),
    Case("openrouter", 200, json.dumps({"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-min."}}), LIMIT, False, LATER),
    Case("openrouter", 402, openai("Insufficient credits. Add more at https://openrouter.ai/credits", code=402), MONEY, True, CREDIT),
    Case("openrouter", 403, openai("x requires moderation. Your input was flagged for \"violence\".", code=403), BAD, False, "content of this prompt"),
    Case("openai", 401, openai("Your account is not active, please check your billing details on our website.", "billing_not_active", "billing_not_active"), MONEY, True, CREDIT),
    Case("openai", 400, openai("Billing hard limit has been reached", "insufficient_quota", "billing_hard_limit_reached"), MONEY, True, CREDIT),
    Case("anthropic", 429, anthropic("rate_limit_error", "This request would exceed your organization's rate limit of 50,000 input tokens per minute"), LIMIT, False, LATER),
    Case("anthropic", 400, anthropic("invalid_request_error", "Output blocked by content filtering policy"), BAD, False, "content of this prompt"),
    Case("gemini", 400, google(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key."), AUTH, True, KEY),
    Case("gemini", 403, google(403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key."), AUTH, True, KEY),
    Case("gemini", 400, google(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), BAD, True, "your region"),
    Case("azure", 404, json.dumps({"error": {"code": "404", "message": "Resource not found"}}), BAD, True, "end with /v1"),
    Case("azure", 429, json.dumps({"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}), MONEY, True, CREDIT),
    Case("llama.cpp", 404, openai("File Not Found", "not_found_error", 404), BAD, True, "end with /v1"),
    Case("llama.cpp", 400, openai("model not found: qwen", "invalid_request_error", 400), MODEL, True, NAME),
    Case("ollama", 400, openai('"nomic-embed-text" does not support chat', "invalid_request_error"), BAD, True, NAME),
    Case("ollama", 500, openai("llama runner process no longer running: -1 CUDA error: out of memory", "api_error"), DOWN, False, "smaller model"),
    Case("ollama", 500, openai("llama runner process has terminated: signal: killed", "api_error"), DOWN, False, "log of this server"),
    Case("lm studio", 404, openai('Failed to load model "qwen". Error: Model loading aborted due to insufficient system resources.', code="model_not_found"), DOWN, True, "smaller model"),
    Case("lm studio", 400, json.dumps({"error": "Model unloaded."}), DOWN, False, "Load the model again"),
    Case("lm studio", 400, json.dumps({"error": "The model has crashed without additional information. (Exit code: null)"}), DOWN, False, "log of this server"),
    Case("litellm", 401, openai("litellm.AuthenticationError: AuthenticationError: OpenAIException - Incorrect API key provided: sk-bad. Received Model Group=gpt", "None", "401"), AUTH, True, KEY),
    Case("litellm", 429, openai("ExceededTokenBudget: Current spend for token: 0.02; Max Budget for Token: 0.01", "budget_exceeded", "429"), MONEY, True, CREDIT),
    Case("litellm", 400, openai("litellm.ContentPolicyViolationError: The response was filtered", "None", "400"), BAD, False, "content of this prompt"),
    Case("openrouter", 404, openai("No endpoints found for x/y.", code=404), MODEL, True, NAME),
    Case("openrouter", 400, openai("x/y is not a valid model ID", code=400), MODEL, True, NAME),
    Case("openrouter", 403, openai("Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys", code=403), MONEY, True, CREDIT),
]  # fmt: skip


def ids(case: Case) -> str:
    """A short name of a case."""
    return f"{case.server}-{case.status}-{case.cls.__name__}"


def words_of(case: Case) -> str:
    """The words of a case's server, as the documentation shows them."""
    try:
        body = json.loads(case.body)
    except ValueError:
        return case.body
    found = body["error"]
    return found["message"] if isinstance(found, dict) else found


def test_the_documentation_has_every_case():
    """The table in docs/servers.md is that of these cases: each row of it is tested, and each case is a row."""
    page = Path(__file__).parents[2] / "docs" / "servers.md"
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split(" | "))
        for line in page.read_text().splitlines()
        if line.startswith("| ") and " LM" in line
    ]
    ends = {True: "ends the run", False: "an exception in the cell"}
    cases = [
        (case.server, str(case.status), words_of(case), case.cls.__name__, ends[case.permanent])
        for case in CASES
    ]

    assert sorted(rows) == sorted(cases)


@pytest.mark.parametrize("case", CASES, ids=ids)
class TestServers:
    @pytest.mark.sampled(6)
    def test_of_a_sub_lm(self, case, kept):
        """A permanent error of a sub-LM ends the run after one request; any other is an observation for the code."""
        code = "try:\n    print(sub_llm('x'))\nexcept Exception as e:\n    print(type(e).__name__, e)\nSUBMIT('a guess')"
        with (
            PolicyServer(
                {"root": scripted(Action("", code)), "sub": lambda _: "x"},
                faults={"sub": Fault(status=case.status, body=case.body, times=None)},
            ) as server,
            dspy.context(lm=server.lm("root")),
        ):
            rlm = RLM("q -> a", sub_lm=server.lm("sub", num_retries=2), pool=kept)
            if case.permanent:
                with pytest.raises(RunFailedError) as raised:
                    rlm(q="")
                report, text = raised.value.run, str(raised.value)
                assert isinstance(raised.value.__cause__, case.cls)
                assert report.stopped_by == case.cls.__name__
            else:
                report = rlm(q="").run
                text = report.steps[0].output
            requests = len(server.requests_to("sub"))

        assert requests == (1 if case.permanent or case.cls is BAD else 3)
        assert text.count(case.advice) == 1
        assert case.cls.__name__ in text
        assert "To fix" not in text

    @pytest.mark.sampled(10)
    def test_of_the_root(self, case, kept):
        """An error of the root LM ends the run with its class and what to do; a permanent one is not repeated."""
        with (
            PolicyServer(
                {"root": lambda _: "x"},
                faults={"root": Fault(status=case.status, body=case.body, times=None)},
            ) as server,
            dspy.context(lm=server.lm("root", num_retries=2)),
        ):
            with pytest.raises(RunFailedError) as raised:
                RLM("q -> a", pool=kept)(q="")
            requests = len(server.requests)

        assert isinstance(raised.value.__cause__, case.cls)
        assert requests == (1 if case.permanent or case.cls is BAD else 3)
        assert str(raised.value).count(case.advice) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            400,
            openai(
                "the request exceeds the available context size (2048)", "exceed_context_size_error"
            ),
        ),
        (
            400,
            openai(
                "This model's maximum context length is 2048 tokens. However, you requested 9000 tokens."
            ),
        ),
        (
            400,
            anthropic(
                "invalid_request_error", "prompt is too long: 208310 tokens > 200000 maximum"
            ),
        ),
        (
            429,
            openai(
                "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 50000."
            ),
        ),
    ],
)
def test_a_prompt_beyond_the_window_is_told_apart(play, status, body):
    """A sub-LM's window that was exceeded is one item of its batch, of DSPy's own class, and is not repeated."""
    rlm, server = play(
        "q -> a: list", "SUBMIT(sub_llm_batched(['short', 'long']))", sub=lambda _: "x"
    )
    rlm.sub_lm = server.lm("sub", num_retries=2)
    server.fail(
        "sub", Fault(status=status, body=body, times=None, only=lambda r: r.prompt == "long")
    )
    answer, item = rlm(q="").a

    assert answer == "x"
    assert item.startswith("[ERROR] ContextWindowExceededError: [openai/sub] ")
    assert item.endswith("The prompt is longer than the context window of this model.")
    assert len(server.requests_to("sub")) == 2


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("number", [1, 2])
def test_an_error_with_status_200_is_not_served_from_the_cache(kept, how, number):
    """DSPy caches such a reply; the next call is made anew, and what the server then answers counts."""
    prompt = f"a prompt that no earlier test has sent: {uuid.uuid4()}"  # DSPy's cache is on disk
    body = json.dumps({"error": {"code": 503, "message": "Provider returned error"}})
    move = Action("", f"SUBMIT(sub_llm_batched([{prompt!r}])[0])")
    with PolicyServer({"root": scripted(move), "sub": lambda _: "fine"}) as server:
        server.fail("sub", Fault(status=200, body=body, times=number))

        def run() -> Any:
            with dspy.context(lm=server.lm("root")):
                rlm = RLM("q -> a", sub_lm=server.lm("sub", cache=True), pool=kept)
                return rlm(q="") if how == "sync" else asyncio.run(rlm.acall(q=""))

        results = [run() for _ in range(number + 1)]
        requests = len(server.requests_to("sub"))

    assert [result.a.startswith("[ERROR] LMServerError") for result in results[:-1]] == [
        True
    ] * number
    assert results[-1].a == "fine"
    assert requests == number + 1
    (*replayed, sent) = results[-1].run.sub_calls
    assert (sent.cached, sent.error) == (False, "")
    assert all(call.cached and call.cost == 0 for call in replayed)


HTML = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><h1>502</h1></body></html>"


class TestReading:
    @pytest.mark.parametrize(
        ("status", "body", "text"),
        [
            (502, HTML, "an HTML page of a gateway, HTTP 502: 502 Bad Gateway"),
            (422, '{"detail": "x"}', "HTTP 422, without a text"),
            (
                200,
                json.dumps(
                    {
                        "choices": [
                            {
                                "index": 0,
                                "message": {"role": "assistant", "content": ""},
                                "finish_reason": "error",
                                "error": {"code": 502, "message": "Provider returned error"},
                            }
                        ]
                    }
                ),
                "Provider returned error",
            ),
        ],
    )
    def test_what_a_gateway_says(self, play, status, body, text):
        """A page of a gateway, an error without words and one inside of a reply are one line each."""
        rlm, server = play("q -> a: list", "SUBMIT(sub_llm_batched(['x']))", sub=lambda _: "x")
        server.fail("sub", Fault(status=status, body=body))
        (item,) = rlm(q="").a

        assert item.startswith("[ERROR] LM")
        assert item.endswith(f"[openai/sub] {text}")

    def test_reading_twice_changes_nothing(self):
        """The text and the class of an error are changed once."""
        error = dspy.LMInvalidRequestError(
            "Invalid model name passed in model=x.", model="m", status=400
        )
        once = str(read_fault(error))

        assert str(read_fault(error)) == once
        assert once == (
            "[m] Invalid model name passed in model=x. Check the name of the model; a local server must have it loaded."
        )

    def test_a_broken_connection_is_no_servers_word(self):
        """The text of a transport error is not searched: it may quote anything."""
        error = dspy.LMTransportError("the model x does not exist in DNS")

        assert type(read_fault(error)) is dspy.LMTransportError
        assert not is_permanent(error)

    def test_rules_are_searched_in_lower_case(self):
        """A rule with an upper-case letter would never apply."""
        assert all(text == text.lower() for rule in RULES for text in rule.texts)

    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_a_key_that_is_missing_is_found_before_the_run(self, play, monkeypatch, asynchronous):
        """An LM without a key never answers: no request is sent to any LM, and no sandbox is taken."""
        for name in ("ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        closed = Pool()
        closed.close()
        _, server = play("q -> a", "SUBMIT('a guess')")
        of_sub_lm = RLM("q -> a", sub_lm="anthropic/claude-x", pool=closed)
        of_root = RLM("q -> a", pool=closed)
        for program, lm, name in (
            (of_sub_lm, server.lm("root"), "ANTHROPIC_API_KEY"),
            (of_root, dspy.LM("openai/gpt-5", api_base=server.base_url), "OPENAI_API_KEY"),
        ):
            with dspy.context(lm=lm), pytest.raises(dspy.LMNotConfiguredError) as raised:
                asyncio.run(program.acall(q="")) if asynchronous else program(q="")
            assert name in str(raised.value)
            assert "\n" not in str(raised.value)

        assert server.requests == []

    @pytest.mark.parametrize(
        "model",
        [
            *("ollama_chat/x", "hosted_vllm/x", "lm_studio/x"),  # local servers need none
            *("azure/x", "bedrock/x", "vertex_ai/x"),  # clouds have logins of other kinds
            *("mistral/x", "litellm_proxy/x", "nobody/x"),  # not DSPy's own engine
        ],
    )
    def test_a_key_that_may_be_elsewhere_is_not_missed(self, monkeypatch, model):
        """Only what is certain is refused; the rest is found by the first call."""
        for name in [name for name in os.environ if "API_KEY" in name]:
            monkeypatch.delenv(name)

        check_key(dspy.LM(model))
        check_key(dspy.LM("anthropic/x", api_key="given"))
        check_key(dspy.LM("openai/x", engine="litellm"))
        monkeypatch.setenv("GOOGLE_API_KEY", "set")
        check_key(dspy.LM("gemini/x"))

    def test_a_batch_with_a_wrong_key_ends_the_run(self, play):
        """No more requests are sent than were in flight when the first was refused, and no key is shown."""
        rlm, server = play(
            "q -> a",
            "sub_llm_batched([str(i) for i in range(50)])",
            "SUBMIT('a guess')",
            sub=lambda _: "x",
        )
        rlm.sub_lm = server.lm("sub", api_key="sk-very-secret-0123456789")
        server.fail(
            "sub", Fault(status=401, message="Bad key sk-very-secret-0123456789", times=None)
        )
        with pytest.raises(RunFailedError) as raised:
            rlm(q="")

        assert len(server.requests_to("sub")) <= 16
        assert "very-secret" not in f"{raised.value}{raised.value.run.dump()}"

    def test_a_sub_run_with_a_wrong_key_ends_the_run(self, play):
        """The turns of a sub-run are sub-calls too: its LM's wrong key ends the whole tree."""
        code = "try: sub_rlm('q -> a', q='x')\nexcept Exception: pass\nSUBMIT('a guess')"
        rlm, server = play("q -> a", code, sub=lambda _: "x")
        server.fail("sub", Fault(status=401, message="Bad key", times=None))
        with pytest.raises(RunFailedError) as raised:
            rlm(q="")

        assert isinstance(raised.value.__cause__, dspy.LMAuthError)
        assert len(server.requests_to("sub")) == 1

    @pytest.mark.sampled(2)
    @pytest.mark.parametrize("turns", [1, 3])
    @pytest.mark.parametrize("asynchronous", [False, True])
    def test_no_turn_and_no_extraction_follow(self, play, turns, asynchronous):
        """After a permanent fault of a sub-LM nothing more is paid, in the last turn too: no turn, no extraction."""
        code = "try: sub_llm('x')\nexcept Exception: pass\nSUBMIT('a guess')"
        rlm, server = play("q -> a", code, sub=lambda _: "x", max_iterations=turns)
        server.fail("sub", Fault(status=401, message="Bad key", times=None))
        with pytest.raises(RunFailedError) as raised:
            asyncio.run(rlm.acall(q="")) if asynchronous else rlm(q="")

        assert raised.value.run.iterations == 1
        assert len(server.requests_to("root")) == 1
