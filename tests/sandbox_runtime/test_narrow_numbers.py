"""The sandbox's Python is a 32-bit build: what is wider works, or its error says what to write instead."""

from __future__ import annotations

import pytest
from cells import output

from sandbox_runtime import Failed, Submitted, open_session
from sandbox_runtime.guest.tracebacks import C_LONG_HINT, INDEX_HINT


@pytest.fixture(scope="module")
def session():
    """One session for all cells of this module."""
    with open_session() as one:
        yield one


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("sum(range(10**5)) ** 3", repr(sum(range(10**5)) ** 3)),
        ("3 * 10**9 in range(10**10), range(10**10)[-1]", "(True, 9999999999)"),
        ("'abc'[: 2**40], [1, 2][0 : 2**63], 'abc'.find('c', 0, 2**40)", "('abc', [1, 2], 2)"),
        ("next(i for i in range(3 * 10**9, 4 * 10**9))", "3000000000"),
        ("list(enumerate('ab', 2**40))", "[(1099511627776, 'a'), (1099511627777, 'b')]"),
        ("import random\n0 <= random.randrange(10**12) < 10**12", "True"),
        ("import random\nrandom.getrandbits(80) < 2**80", "True"),
        ("import math\nmath.comb(70, 35), math.isqrt(10**30)", "(112186277816662845432, 10**15)"),
        ("import zlib\nzlib.crc32(b'abc' * 99)", "2167891539"),
        ("import array\narray.array('q', [2**40])[0]", "1099511627776"),
        ("import struct\nstruct.unpack('<q', struct.pack('<q', -(2**40)))[0]", "-1099511627776"),
        ("import sqlite3\nsqlite3.connect(':memory:').execute('select 5000000000').fetchone()", "(5000000000,)"),
        ("f = open('/tmp/f', 'wb')\nf.seek(2**32 + 5), f.tell(), f.close()", "(4294967301, 4294967301, None)"),
        ("import heapq\nheapq.nsmallest(3 * 10**9, [3, 1])", "[1, 3]"),
        ("import datetime as d\nd.datetime.fromtimestamp(2**33, d.UTC).year", "2242"),
        ("import datetime as d\nd.datetime.fromtimestamp(2**32).isoformat()", "'2106-02-07T06:28:16'"),
        ("import datetime as d\nd.datetime(2100, 1, 1).timestamp()", "4102444800.0"),
        ("import time\ntime.localtime(2**34).tm_year, time.gmtime(-(2**33)).tm_year", "(2514, 1697)"),
        ("import time\ntime.mktime((2100, 1, 1, 0, 0, 0, 0, 0, 0))", "4102444800.0"),
        ("import time\ntime.strftime('%Y-%m-%d', time.gmtime(2**33))", "'2242-03-16'"),
        ("import calendar\ncalendar.timegm((2100, 1, 1, 0, 0, 0))", "4102444800"),
        ("from email.utils import formatdate\nformatdate(2**33)", "'Wed, 16 Mar 2242 12:56:32 -0000'"),
    ],
)  # fmt: skip
def test_wide_numbers_work(session, code, text):
    """Integers, positions in slices, seeds, files and times are as on a 64-bit machine."""
    expected = text if "**" not in text else repr(eval(text))

    assert output(session, code) == expected


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("len(range(3 * 10**9))", INDEX_HINT),
        ("import random\nrandom.sample(range(10**10), 3)", INDEX_HINT),
        ("import itertools\nitertools.islice([1], 3 * 10**9)", INDEX_HINT),
        ("import itertools\nitertools.islice([1], 3 * 10**9, None)", INDEX_HINT),
        ("'x' * 2**31", INDEX_HINT),
        ("import io\nio.BytesIO(b'abc').read(2**33)", INDEX_HINT),
        ("import collections\ncollections.deque(maxlen=3 * 10**9)", INDEX_HINT),
        ("'a,b'.split(',', 10**10)", INDEX_HINT),
        ("import csv\ncsv.field_size_limit(2**40)", INDEX_HINT),
        ("import array\narray.array('l', [2**40])", C_LONG_HINT),
        ("import array\narray.array('L', [2**40])", C_LONG_HINT),
    ],
)
def test_errors_say_what_to_write(session, code, hint):
    """An error that only a 32-bit build raises names the bound, or the wider type."""
    result = session.run_cell(code)

    assert isinstance(result, Failed)
    assert result.traceback.endswith(f"({hint})\n")


@pytest.mark.parametrize("code", ["int('x')", "(2**2000) * 1.5", "import math\nmath.exp(1000)"])
def test_other_errors_have_no_hint(session, code):
    """A number that no Python could take is explained by Python alone."""
    result = session.run_cell(code)

    assert isinstance(result, Failed)
    assert "32-bit" not in result.traceback


def test_wide_numbers_cross(session):
    """Numbers, columns and times beyond 32 bits cross in both directions."""
    values = [2**40, -(2**70), {"at": 2**33}, range(10**10)]
    session.assign("values", values)

    assert output(session, "values == [2**40, -(2**70), {'at': 2**33}, range(10**10)]") == "True"
    result = session.run_cell("SUBMIT(values[:3])")
    assert isinstance(result, Submitted)
    assert result.outputs["output"] == values[:3]
