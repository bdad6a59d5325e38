"""Parsing pip's report as untrusted input."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox_runtime import (
    PackageError,
)
from sandbox_runtime.packages.pip_errors import explain, last_words
from sandbox_runtime.packages.pip_report import MAX_REPORT_BYTES, as_named, read_report


def report(**changes) -> dict:
    """One package as pip reports it; `changes` by the path of a field, with `__` between its parts."""
    item = {
        "metadata": {"name": "thing", "version": "1.0", "requires_dist": ["other>=1"]},
        "download_info": {
            "url": "https://index.invalid/thing-1.0-py3-none-any.whl",
            "archive_info": {"hashes": {"sha256": "0" * 64}},
        },
        "requested": True,
        "is_direct": False,
    }
    for path, value in changes.items():
        *folders, last = path.split("__")
        place = item
        for folder in folders:
            place = place[folder]
        place[last] = value
    return item


def as_report(*items: object, **more: object) -> bytes:
    body = {"environment": {"sys_platform": "emscripten"}, "install": list(items), **more}
    return json.dumps(body).encode()


class TestReport:
    """Invalid fields in pip's report fail the request."""

    def test_an_honest_one(self):
        """Every field that is used later is parsed."""
        [found] = read_report(as_report(report()))

        assert (found.name, found.version, found.sha256) == ("thing", "1.0", "0" * 64)
        assert found.file == "thing-1.0-py3-none-any.whl"
        assert (found.requested, found.direct, found.requires) == (True, False, ("other>=1",))

    @pytest.mark.parametrize(
        "changes",
        [
            {"metadata": []},
            {"metadata__name": 7},
            {"metadata__name": ""},
            {"metadata__name": "thing\n--index-url=http://evil.invalid"},
            {"metadata__name": "thing @ https://evil.invalid/x.whl #"},
            {"metadata__name": "../thing"},
            {"metadata__name": "t" * 5_000},
            {"metadata__version": "1.0\n-e ."},
            {"metadata__version": "1.0 --hash=sha256:1"},
            {"metadata__version": "2.0"},
            {"metadata__version": None},
            {"metadata__requires_dist": "other"},
            {"metadata__requires_dist": [7]},
            {"metadata__requires_dist": ["x" * 5_000]},
            {"download_info": None},
            {"download_info__url": "https://index.invalid/thing-1.0.tar.gz"},
            {"download_info__url": "https://index.invalid/other-1.0-py3-none-any.whl"},
            {"download_info__url": "git+https://index.invalid/thing-1.0-py3-none-any.whl"},
            {"download_info__url": "ftp://index.invalid/thing-1.0-py3-none-any.whl"},
            {"download_info__url": "https://index.invalid/ -e/thing-1.0-py3-none-any.whl"},
            {"download_info__url": "https://index.invalid/x\nthing-1.0-py3-none-any.whl"},
            {"download_info__url": "https://index.invalid/a/..%2fthing-1.0-py3-none-any.whl"},
            {"download_info__url": "https://index.invalid/..%252fthing-1.0-py3-none-any.whl"},
            {"download_info__url": "https://[index/thing-1.0-py3-none-any.whl"},
            {"download_info__url": f"https://i.invalid/thing-1.0-{'py3.' * 900}py3-none-any.whl"},
            {"download_info__archive_info": None},
            {"download_info__archive_info__hashes": {"md5": "0"}},
            {"download_info__archive_info__hashes": {"sha256": "0" * 63}},
            {"download_info__archive_info__hashes": {"sha256": ["0" * 64]}},
            {"download_info__archive_info__hashes": {"sha256": "0" * 63 + "\n"}},
            {"requested": "yes"},
            {"is_direct": 1},
        ],
    )
    def test_a_field_that_has_not_its_form(self, changes):
        """No invalid field reaches a requirements file, a path, or the next command of pip."""
        if changes == {
            "download_info__url": "https://index.invalid/a/..%2fthing-1.0-py3-none-any.whl"
        }:
            [found] = read_report(as_report(report(**changes)))
            assert found.file == "thing-1.0-py3-none-any.whl"  # the last part, and no other
            return
        with pytest.raises(PackageError) as caught:
            read_report(as_report(report(**changes)))

        assert len(str(caught.value)) < 1_000

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\xff\xfe\x00",
            b"null",
            b"[]",
            b'"' * 3,
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b"1" * 10_000,
            b'{"environment": {"sys_platform": "emscripten"}}',
            b'{"environment": {"sys_platform": "emscripten"}, "install": {}}',
            b'{"environment": {"sys_platform": "emscripten"}, "install": [[]]}',
            b'{"environment": {"sys_platform": "linux"}, "install": []}',
            b'{"environment": 3, "install": []}',
            as_report(report(), report()),
            as_report(report(), report(metadata__name="Thing")),
            as_report(*[{}] * 2_001),
            b" " * (MAX_REPORT_BYTES + 1),
        ],
        ids=range(17),
    )
    def test_what_is_no_report(self, data):
        """Whatever the bytes, the error is always a PackageError."""
        with pytest.raises(PackageError):
            read_report(data)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(
                        ["metadata", "name", "version", "download_info", "url", "archive_info"]
                    )
                    | st.text(),
                    inner,
                )
            ),
            max_leaves=20,
        )
    )
    def test_any_json_at_all(self, value):
        """Any JSON value is parsed, or refused with a reason."""
        for data in (json.dumps(value).encode(), as_report(value)):
            try:
                found = read_report(data)
            except PackageError:
                continue
            assert found == []

    def test_only_what_was_named_comes_from_an_address(self):
        """A second check, after pip's own refusal of unnamed URLs."""
        [found] = read_report(as_report(report(is_direct=True)))

        own = found.url.replace("://", "://me:password@") + "#sha256=1"
        assert [one.url for one in as_named([found], [own])] == [own]
        with pytest.raises(PackageError, match="not among the addresses in packages"):
            as_named([found], ["https://elsewhere.invalid/thing-1.0-py3-none-any.whl"])

    def test_reading_takes_time_in_proportion(self):
        """Four times the packages take about four times the work, not sixteen times."""

        def work(count: int) -> float:
            names = [f"thing{number}" for number in range(count)]
            data = as_report(
                *(
                    report(
                        metadata__name=name,
                        download_info__url=f"https://i.invalid/{name}-1.0-py3-none-any.whl",
                        metadata__requires_dist=["x" * 1_000] * 20,
                    )
                    for name in names
                )
            )
            start = time.process_time()
            read_report(data)
            return time.process_time() - start

        few, many = min(work(400) for _ in range(3)), min(work(1_600) for _ in range(3))
        assert many < 10 * few + 0.1


class TestLog:
    """pip's log quotes untrusted pages and packages; it is read in one pass."""

    @pytest.mark.parametrize(
        "line",
        [
            "Skipping link: " + ": " * 500_000,
            "Skipping link: x: " + "/" * 1_000_000,
            "requirement thing" * 100_000,
            "ERROR: " + "<a object at 0x" * 100_000,
            "Error" * 200_000,
            "connection broken by " * 50_000,
        ],
        ids=range(6),
    )
    def test_a_long_line_costs_little(self, line):
        """The cost is at most linear in the length of a line."""
        start = time.process_time()
        explain(f"{line}\n" * 4, "thing")
        last_words(f"{line}\n" * 4)

        assert time.process_time() - start < 5

    def test_what_comes_out_is_printable(self):
        """The summary contains no terminal sequences and no line breaks."""
        message = last_words("ERROR: \x1b]0;pwned\x07\u202e\u2028end")

        assert message.isprintable()
        assert "\\x1b]0;pwned" in message
