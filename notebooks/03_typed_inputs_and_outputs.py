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
# # 3. Typed inputs and outputs
#
# A signature declares types, and they hold: inputs are checked before anything is spent, and an output that does not fit goes back to the model as a message that it can act on. This
# notebook lets a model make four ordinary mistakes, and shows what each of them leads to.

# %%
import datetime
import enum
from decimal import Decimal

import dspy
import pydantic

import dspy_rlm
from dspy_rlm import Quote
from dspy_rlm.testing import Action, choose_models, policy


class Unit(enum.Enum):
    EUR = "EUR"
    USD = "USD"


class Invoice(pydantic.BaseModel):
    """One invoice."""

    number: str = pydantic.Field(pattern=r"^R-\d{4}$")
    day: datetime.date
    total: Decimal = pydantic.Field(gt=0)
    unit: Unit


class ReadInvoices(dspy.Signature):
    """List the invoices of a mail folder, and quote the sentence that says when to pay."""

    mails: list[str] = dspy.InputField()
    since: datetime.date = dspy.InputField(desc="leave out older invoices")
    invoices: list[Invoice] = dspy.OutputField()
    terms: Quote = dspy.OutputField(desc="the terms of payment, verbatim")


mails = [
    "Invoice R-1041 of 3 March 2026 over 1,250.00 EUR.\nPayment is due\nwithin 14 days of receipt.",
    "Our invoice R-0987, dated 12/11/2025: 99.90 USD, with thanks.",
    "Invoice R-1042 (4 March 2026), 310.50 EUR. See you next week!",
]

# %% [markdown]
# ## Mistakes, one after another
#
# *The stand-in for a model:* five submissions, of which only the last one fits.

# %%
FOUND = """
from datetime import date
found = [
    {'number': 'R-1041', 'day': date(2026, 3, 3), 'total': '1250.00', 'unit': 'EUR'},
    {'number': 'R-1042', 'day': date(2026, 3, 4), 'total': '310.50', 'unit': 'EUR'},
]
due = 'Payment is due within 14 days of receipt.'
"""


@policy
def root(task):
    yield Action(
        "What do the mails look like?",
        "for mail in mails: print(mail[:60])\nprint(type(since), since)",
    )
    yield Action("I submit what I have read.", FOUND + "SUBMIT(invoices=found)")
    yield Action(
        "The terms were missing.", "found[0]['unit'] = 'Euro'\nSUBMIT(invoices=found, terms=due)"
    )
    yield Action(
        "The unit is EUR.",
        "found[0]['unit'] = 'EUR'\nfound[1]['total'] = 0\nSUBMIT(invoices=found, terms=due)",
    )
    yield Action(
        "Nothing costs nothing.", "found[1]['total'] = '310.50'\nSUBMIT(invoices=found, terms=due)"
    )
    yield Action(
        "Verbatim, so with its line break.",
        "start = mails[0].index('Payment')\nSUBMIT(invoices=found, terms=mails[0][start:])",
    )


lms = choose_models(root)
dspy.configure(lm=lms.root)
rlm = dspy_rlm.RLM(ReadInvoices, max_iterations=10)
prediction = rlm(mails=mails, since=datetime.date(2026, 1, 1))

# %% [markdown]
# What the model read after each submission:

# %%
from IPython.display import HTML, display
import html


def table(head, rows):
    """Displays rows as a table."""
    cells = lambda row, tag: "".join(
        f"<{tag} style='text-align:left;vertical-align:top'>{cell}</{tag}>" for cell in row
    )
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    display(
        HTML(f"<table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>")
    )


def code(text):
    return f"<pre style='text-align:left;white-space:pre-wrap;margin:0'>{html.escape(text.strip())}</pre>"


table(
    ["step", "code", "what the model read"],
    [
        (number, code(step.code.removeprefix(FOUND)), code(step.output))
        for number, step in enumerate(prediction.run.steps, 1)
        if number > 1
    ],
)

# %% [markdown]
# No mistake cost more than a turn, and none of them reached the program.
#
# ## What arrives
#
# The outputs are instances of the declared classes, not text that looks like them. The host has located the quote, so its place is a fact.

# %%
for invoice in prediction.invoices:
    print(repr(invoice))

quote = prediction.terms
print(
    f"{quote.text!r}\n  in {quote.input}{quote.path}, line {quote.line}, characters {quote.start} to {quote.end}"
)

# %%
assert [invoice.number for invoice in prediction.invoices] == ["R-1041", "R-1042"]
assert isinstance(prediction.invoices[0].total, Decimal) and prediction.invoices[0].unit is Unit.EUR
assert mails[0][quote.start : quote.end] == quote.text
if lms.scripted:
    assert prediction.run.iterations == 6

# %% [markdown]
# ## Inputs are checked too
#
# A wrong input is an error of the program, so it is raised before a model is called.

# %%
calls = len(lms.root.history)
try:
    rlm(mails=mails, since="last year")
except dspy_rlm.InputError as error:
    print(type(error).__name__, "-", error)

assert len(lms.root.history) == calls

# %% [markdown]
# ## Rules of your own
#
# A type says what one output looks like. A `validator` says what all of them have to satisfy together; its words go back to the model in the same way.


# %%
def the_total_is_right(invoices, total):
    """The total is the sum of the invoices."""
    return total == sum(Decimal(amount) for amount in invoices)


@policy
def adds_up(task):
    yield Action("Roughly 1,500.", "SUBMIT(total='1500')")
    yield Action(
        "I let Python add.",
        "from decimal import Decimal\nSUBMIT(total=sum(map(Decimal, invoices)))",
    )


lms = choose_models(adds_up, quiet=True)
checked = dspy_rlm.RLM(
    "invoices: list[str] -> total: decimal.Decimal", validators=[the_total_is_right]
)
with dspy.context(lm=lms.root):
    result = checked(invoices=["1250.00", "310.50"])
print(result.run.steps[0].output, "\n\ntotal:", repr(result.total))

assert result.total == Decimal("1560.50")

# %% [markdown]
# ## What can cross
#
# | kind | in the REPL |
# |---|---|
# | numbers, texts, dates with time zones, `Decimal`, `UUID`, lists, dicts, sets | the same |
# | Pydantic models, dataclasses, named tuples, enums | records of the same name, validated on the way back |
# | pandas, Polars and Arrow tables, NumPy arrays | the same if `packages=[...]` has them, else a `Table` or an `Array` |
# | images, sounds, your own classes | handles: they stay on the host, and can be passed on to tools and sub-LMs |
# | files, streams, folders | lazy texts: see [9](09_very_large_inputs.ipynb) |
#
# [docs/values.md](../docs/values.md) has the whole list. **Next:** [4. Map and reduce](04_map_and_reduce.ipynb)
