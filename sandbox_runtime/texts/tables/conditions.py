"""The conditions that cells may state on the rows of a table, as SQL. No SQL comes from a cell: names and literals are quoted here.

A condition is a column, an operator and a value, as in the `filters` of `pandas.read_parquet`; all of them must hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

MAX_CONDITIONS = 50
MAX_VALUES = 10_000
MAX_TEXT_CHARS = 20_000

_COMPARED = {"=": "=", "==": "=", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
OPERATORS = (*_COMPARED, "in", "not in", "contains", "matches")

Quote = Callable[[str], str]


def sql_of(conditions: object, columns: Sequence[str], quote: Quote) -> str:
    """Returns the SQL of all conditions together; "" without any.

    Raises:
        ValueError: One is not valid; the message is for the cell.
    """
    if conditions is None:
        return ""
    if not isinstance(conditions, (list, tuple)) or len(conditions) > MAX_CONDITIONS:
        raise ValueError(f"where must be a list of at most {MAX_CONDITIONS} conditions")
    if len(conditions) == 3 and isinstance(conditions[0], str):
        conditions = [conditions]  # one alone
    return " AND ".join(_sql(one, columns, quote) for one in conditions)


def _sql(condition: object, columns: Sequence[str], quote: Quote) -> str:
    if not isinstance(condition, (list, tuple)) or len(condition) != 3:
        raise ValueError(
            f"a condition is (column, operator, value), not {condition!r:.200}; operators: {', '.join(OPERATORS)}"
        )
    name, operator, value = condition
    column = quoted_column(name, columns, quote)
    if operator in _COMPARED:
        if value is None:
            return f"{column} IS {'NOT ' if _COMPARED[operator] == '<>' else ''}NULL"
        return f"{column} {_COMPARED[operator]} {literal(value)}"
    if operator in ("in", "not in"):
        if not isinstance(value, (list, tuple)) or not 0 < len(value) <= MAX_VALUES:
            raise ValueError(f"{operator!r} needs a list of 1 to {MAX_VALUES:,} values")
        return f"{column} {operator.upper()} ({', '.join(map(literal, value))})"
    if operator == "contains":
        return f"contains({column}, {literal(_text(value))})"
    if operator == "matches":
        return matches(column, _text(value))
    raise ValueError(f"there is no operator {operator!r:.100}; there are {', '.join(OPERATORS)}")


def quoted_column(name: object, columns: Sequence[str], quote: Quote) -> str:
    """Returns a column's name in SQL. Raises `ValueError` for a column that is not there."""
    if not isinstance(name, str) or name not in columns:
        raise ValueError(f"there is no column {name!r:.100}; there are {', '.join(columns)}")
    return quote(name)


def matches(column: str, pattern: str) -> str:
    """Returns the SQL for a regular expression. Both engines search in linear time, without backtracking."""
    return f"regexp_like({column}, {literal(pattern)})"


def literal(value: object) -> str:
    """Returns a value in SQL. Raises `ValueError` for one of another type."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int) and abs(value) < 2**63:
        return str(value)
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    if isinstance(value, str):
        return "'" + _text(value).replace("'", "''") + "'"
    if hasattr(value, "isoformat"):  # a date or a time
        return "'" + str(value.isoformat()).replace("'", "''") + "'"
    raise ValueError(f"a value must be a text, a number, a bool or a date, not {value!r:.100}")


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT_CHARS or "\0" in value:
        raise ValueError(f"a text of at most {MAX_TEXT_CHARS:,} characters is needed")
    return value
