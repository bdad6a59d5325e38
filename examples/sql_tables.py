"""Questions about a database: a read-only SQL tool, and a sub-LM for the columns that no query can judge.

    python examples/sql_tables.py

Scripted policies play the models, unless DSPY_RLM_MODEL names a real one.
"""

from __future__ import annotations

import sqlite3
import tempfile
from pathlib import Path

import dspy

import dspy_rlm
from dspy_rlm.testing import Action, choose_models, fields, policy

NOTES = [
    "asked about the invoice",
    "wants to cancel, too slow",
    "happy with the update",
    "will leave for a competitor",
]


def build(path: Path) -> None:
    """Writes a database: 200 customers, 8,000 orders, 600 notes of calls."""
    with sqlite3.connect(path) as base:
        base.executescript(
            "create table customers(id integer primary key, name text, region text);"
            "create table orders(id integer primary key, customer integer references customers, cents integer);"
            "create table notes(customer integer references customers, said text);"
        )
        base.executemany(
            "insert into customers values (?, ?, ?)",
            [(n, f"customer {n}", "NESW"[n % 4]) for n in range(200)],
        )
        base.executemany(
            "insert into orders values (?, ?, ?)",
            [(n, n * 13 % 200, n * 97 % 20_000) for n in range(8_000)],
        )
        base.executemany(
            "insert into notes values (?, ?)",
            [(n * 3 % 200, NOTES[n * n % 11 % 4]) for n in range(600)],
        )
    base.close()


def reader(path: Path):
    """Returns the tool: SQL on a connection that cannot write."""

    def sql(query: str) -> list[dict]:
        """Runs one SELECT and returns up to 10,000 rows.

        Args:
            query: SQLite's SQL. The tables are in sqlite_master.
        """
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as base:
            base.row_factory = sqlite3.Row
            rows = [dict(row) for row in base.execute(query).fetchmany(10_000)]
        base.close()
        return rows

    return sql


@policy
def root(task):
    """Plays the root LM: the schema, the notes that need reading, and one join."""
    yield Action(
        "Which tables are there?",
        "for row in sql(\"select sql from sqlite_master\"):\n    print(row['sql'])",
    )
    yield Action(
        "A query cannot tell who is about to leave. There are few distinct notes: the sub-LM reads each.",
        "said = [row['said'] for row in sql('select distinct said from notes')]\n"
        "rows = predict_batched('note -> leaving: bool', [{'note': text} for text in said])\n"
        "leaving = [text for text, row in zip(said, rows) if row.leaving]\nprint(leaving)",
    )
    yield Action(
        "The rest is a query.",
        'texts = \', \'.join("\'" + t.replace("\'", "\'\'") + "\'" for t in leaving)\n'
        "rows = sql(f'''select c.region, count(distinct c.id) as customers, sum(o.cents) / 100.0 as revenue\n"
        "from customers c join orders o on o.customer = c.id\n"
        "where c.id in (select customer from notes where said in ({texts}))\n"
        "group by c.region order by revenue desc''')\nprint(rows)",
    )
    yield Action(
        "Submit the first.",
        "SUBMIT(region=rows[0]['region'], customers=rows[0]['customers'], revenue=rows[0]['revenue'])",
    )


sub = fields(lambda inputs: {"leaving": "cancel" in inputs["note"] or "leave" in inputs["note"]})


def main() -> None:
    """Asks about the database, and checks the answer with one query."""
    models = choose_models(root, sub)
    with tempfile.TemporaryDirectory() as folder, dspy.context(lm=models.root):
        path = Path(folder, "shop.db")
        build(path)
        sql = reader(path)
        rlm = dspy_rlm.RLM(
            "question -> region: str, customers: int, revenue: float",
            tools=[sql],
            sub_lm=models.sub,
            max_llm_calls=20,
        )
        found = rlm(
            question="In which region is most revenue at risk, because customers are about to leave?"
        )
        print(f"{found.region}: {found.customers} customers, {found.revenue:.2f}")
        print(f"{len(found.run.sub_calls)} calls of the sub-LM for 600 notes")
        if models.scripted:
            at_risk = "select customer from notes where said like '%cancel%' or said like '%leave%'"
            (row,) = sql(
                "select c.region, sum(o.cents) / 100.0 as revenue from customers c join orders o on o.customer = c.id "
                f"where c.id in ({at_risk}) group by c.region order by revenue desc limit 1"
            )
            assert (row["region"], row["revenue"]) == (found.region, found.revenue)


if __name__ == "__main__":
    main()
