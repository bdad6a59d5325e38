# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10. Bring your own model
#
# An RLM calls models through `dspy.LM`, so every provider that DSPy knows works, and so does every server that speaks OpenAI's chat API: vLLM, llama.cpp, Ollama, LM Studio, LiteLLM's proxy, or one of your own. This notebook connects to such a
# server by its address alone. Here it is the policy server of this package, which speaks that API over HTTP on this machine; put your own address in its place.

# %%
import json
import os
import urllib.request

import dspy

import dspy_rlm
from dspy_rlm.testing import Action, asks_for, choose_models, fields, policy, route

# %%
FIND = """
late = [row for row in deliveries if 'late' in row]
print(len(late), late[:2])
"""


@policy
def root(task):
    yield Action("Which of them are late?", FIND)
    yield Action(
        "A sub-LM reads the reasons.",
        "rows = predict_batched('note -> reason: str, days: int', late)\nSUBMIT(days=[row.days for row in rows])",
    )


sub = fields(lambda inputs: {"reason": "not stated", "days": int(inputs["note"].split()[-2])})
lms = choose_models(route((asks_for("code"), root), otherwise=lambda request: "OK"), sub)

# The address and the names that you would know of your own server:
address, large, small = lms.root.kwargs.get("api_base"), lms.root.model, lms.sub.model

# %% [markdown]
# ## 1. Is it there?
#
# The first question to a server is which models it has. The second is whether `dspy.LM` reaches one of them: the model's name has the prefix `openai/`, whatever the model is, because that is the API.

# %%
if lms.scripted:
    with urllib.request.urlopen(f"{address}/models") as reply:
        print([model["id"] for model in json.load(reply)["data"]])

key = {"api_base": address, "api_key": os.environ.get("MY_SERVER_KEY", "none")} if address else {}
lm = dspy.LM(large, cache=False, **key)
print(lm("Reply with the word OK and nothing else."))

# %% [markdown]
# In a terminal, `dspy-rlm doctor --model openai/NAME --api-base ADDRESS` checks the same, the context window and the price too.
#
# ## 2. Ask with it

# %%
sub_lm = dspy.LM(small, cache=False, **key)
rlm = dspy_rlm.RLM(
    "deliveries: list[str], question -> days: list[int]", sub_lm=sub_lm, max_iterations=6
)
deliveries = [
    f"parcel {number} {'on time' if number % 10 else f'late by {number // 10} days'}"
    for number in range(1, 101)
]
with dspy.context(lm=lm):
    prediction = rlm(deliveries=deliveries, question="By how many days are the late ones late?")
print(prediction.days, "-", prediction.run.status)
assert prediction.days == list(range(1, 11))

# %% [markdown]
# ## 3. Tell it what DSPy cannot know
#
# DSPy has a table of well-known models with their context windows, prices and abilities. Of a server of your own it knows nothing, so say what matters:


# %%
class LocalLM(dspy.LM):
    """A server that can constrain replies to a JSON schema, as vLLM and llama.cpp can."""

    supports_response_schema = True
    supported_params = frozenset({"response_format"})


local = LocalLM(small, cache=False, max_tokens=2_000, num_retries=3, **key)
rlm = dspy_rlm.RLM(
    "deliveries: list[str], question -> days: list[int]",
    sub_lm=local,
    prices={
        large: (0.0, 0.0),
        small: (0.0, 0.0),
    },  # it runs on your machine: max_cost needs some price
    max_concurrency=4,  # calls at once: what the server can serve
    history_tokens=6_000,  # room for earlier steps, where the context window is small
    max_output_chars=4_000,
)
with dspy.context(lm=lm):
    prediction = rlm(deliveries=deliveries, question="By how many days are the late ones late?")

print(f"cost {prediction.run.cost}, {len(prediction.run.sub_calls)} typed calls")
if lms.scripted:
    request = lms.server.requests_to("sub")[-1].request
    print("the reply was requested in a schema:", request.response_format["type"])
    assert request.response_format["type"] == "json_schema"
    assert prediction.run.cost == 0

# %% [markdown]
# Typed calls of small models gain most from the schema: in a measurement of this project with a small model, 0 of 12 typed answers became 40 of 40. Several runs of a process share the limits of a server:
#
# ```python
# dspy_rlm.configure(limits_per_model={"openai/qwen3-30b": {"concurrency": 8, "requests_per_minute": 300}})
# ```

# %% [markdown]
# ## Servers and providers
#
# These lines need a key or a server, so they are not run here. The names of models change; take those that you have access to.
#
# | where | how |
# |---|---|
# | OpenAI | `dspy.LM("openai/gpt-5")`, `OPENAI_API_KEY` |
# | Anthropic | `dspy.LM("anthropic/claude-sonnet-4-5")`, `ANTHROPIC_API_KEY` |
# | Gemini | `dspy.LM("gemini/gemini-2.5-pro")`, `GEMINI_API_KEY` |
# | Vertex AI | `dspy.LM("vertex_ai/gemini-2.5-pro", vertex_project="my-project", vertex_location="europe-west1")` after `gcloud auth application-default login` |
# | Azure | `dspy.LM("azure/my-deployment", api_base="https://….openai.azure.com", api_version="…")`, `AZURE_API_KEY` |
# | OpenRouter | `dspy.LM("openrouter/qwen/qwen3-coder")`, `OPENROUTER_API_KEY` |
# | vLLM: `vllm serve Qwen/Qwen3-30B-A3B` | `dspy.LM("openai/Qwen/Qwen3-30B-A3B", api_base="http://127.0.0.1:8000/v1", api_key="none")` |
# | llama.cpp: `llama-server -m model.gguf --port 8080` | `dspy.LM("openai/any", api_base="http://127.0.0.1:8080/v1", api_key="none")` |
# | Ollama: `ollama serve` | `dspy.LM("openai/qwen3:30b", api_base="http://127.0.0.1:11434/v1", api_key="none")`; set its context length, which is small by default |
# | LM Studio | `dspy.LM("openai/NAME", api_base="http://127.0.0.1:1234/v1", api_key="none")` |
#
# For the command line and for these notebooks the same settings are environment variables:
#
# ```bash
# export DSPY_RLM_MODEL=openai/Qwen/Qwen3-30B-A3B DSPY_RLM_API_BASE=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none
# dspy-rlm ask ./src -q "Which functions write to disk?"
# ```

# %% [markdown]
# ## Google Colab
#
# The sandbox is a WebAssembly interpreter in a Deno process, and both come with the package, so no system package is needed. In a Colab notebook (not run here):
#
# ```python
# !git clone https://github.com/OWNER/dspy-rlm && pip install ./dspy-rlm   # or a release, once there is one
# ```
#
# The key comes from Colab's *Secrets* panel, never from a cell:
#
# ```python
# import os
# from google.colab import userdata
#
# os.environ["GEMINI_API_KEY"] = userdata.get("GEMINI_API_KEY")
# dspy.configure(lm=dspy.LM("gemini/gemini-2.5-pro"))
# ```
#
# With Vertex AI, Colab signs you in, and the model needs the project:
#
# ```python
# from google.colab import auth
#
# auth.authenticate_user(project_id="my-project")
# dspy.configure(lm=dspy.LM("vertex_ai/gemini-2.5-pro", vertex_project="my-project", vertex_location="us-central1"))
# ```
#
# `python -m sandbox_runtime doctor` says which layers of the sandbox that machine has. A Colab machine has two cores and 12 GB, so `num_threads=2` and inputs by `TextFile` suit it.

# %% [markdown]
# ## Which model for which part?
#
# - **Root LM**: it has to write correct Python and to read tracebacks. That is where a strong model pays, and its prompts are small.
# - **Sub-LM**: it reads one piece at a time. A small or local model is often enough; measure it on ten pieces whose answers you know.
# - A reasoning model needs room: `max_tokens` of 16,000 and more, otherwise replies are cut (`run.turns_lost` counts them as `cut_off`).
# - Compare on your own questions: `dspy.Evaluate` with both, then `dspy_rlm.compare` on two journals. Nothing in these notebooks says how good a model is.
#
# You have reached the end. [docs/](../docs/) has a page for each topic, and [docs/recipes](../docs/recipes/index.md) has programs to copy.
