"""The examples of `docs/answers.md`, run as they stand there, one after the other."""

from __future__ import annotations

import functools
import random
import re
from pathlib import Path
from types import SimpleNamespace

import dspy

import dspy_rlm
from dspy_rlm.testing import Action, fields, scripted

DOCS = Path(__file__).parents[2] / "docs" / "answers.md"

FIRST = (
    'SUBMIT(days=7, evidence=["cancel with 30 days\' notice"])',
    'print(contract)\nSUBMIT(days=7, evidence=["30 days\' notice"])',
    'SUBMIT(days=30, evidence=["cancel\\nwith 30 days\' notice"])',
)
SECOND = (
    "rows = predict_batched('page -> signer: str | None', pages[:2])\nprint(rows)",
    "SUBMIT(answer=next(row.signer for row in rows if row.signer))",
)


def test_the_examples_run(play, kept, capsys):
    """The examples print what their comments say; the refusals are those that the page quotes."""
    chosen = random.Random(3)
    pages = ["".join(f"{chosen.getrandbits(40):010x}" for _ in range(200)) for _ in range(4)]
    pages[1] = f"{pages[1][:1000]}Ada Lovelace{pages[1][1012:]}"
    scripts = {"contract": FIRST, "pages": SECOND}
    players = {
        name: scripted(*(Action("", code) for code in codes)) for name, codes in scripts.items()
    }

    def root(request):
        return players["pages" if "`pages`" in request.prompt else "contract"](request)

    signer = fields(lambda inputs: {"signer": "Ada Lovelace" if "Ada" in inputs["page"] else None})
    _, server = play("q -> a", root, sub=signer)
    page = DOCS.read_text("utf-8")
    rlm = functools.partial(dspy_rlm.RLM, pool=kept, sub_lm=server.lm("sub"))
    names = {"pages": pages}
    library = SimpleNamespace(RLM=rlm, Quote=dspy_rlm.Quote)

    promised = []
    with dspy.context(lm=server.lm("root")):
        for block in re.findall(r"```python\n(.*?)```", page, re.S):
            if block.startswith("SUBMIT("):
                continue  # a cell's
            names["dspy_rlm"], names["dspy"] = library, dspy
            code = block.replace("import dspy, dspy_rlm\n", "")
            exec(compile(code, str(DOCS), "exec", dont_inherit=True), names)
            promised += re.findall(r"^\s*print\(.*\)  # (.*)$", block, re.M)
            if "prediction" in names and "first" not in names:
                names["first"] = names["prediction"]

    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(promised)
    for line, promise in zip(printed, promised, strict=True):
        assert line.startswith(promise.removesuffix(" ..."))
    steps = [step.output for step in names["first"].run.steps]
    quoted = re.search(r"```text\n- (evidence: .*?)\n```", page, re.S)
    assert quoted is not None
    assert quoted[1].replace("\n", " ") in steps[0]
    assert "- a_notice_of_at_least_two_weeks does not hold: The notice is" in steps[1]
