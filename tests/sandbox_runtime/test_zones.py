"""Time zones: cells read the host's database by name, and nothing else of the host through it."""

from __future__ import annotations

import datetime
import zoneinfo

import pandas as pd
import pytest
from cells import output

from sandbox_runtime import Failed, Submitted, open_session
from sandbox_runtime.zones import serve_zone, zone_data, zone_names

ZONES = ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"]
MOMENTS = [datetime.datetime(year, month, 1, 12) for year in (1970, 2024, 2060) for month in (1, 7)]


@pytest.fixture(scope="module")
def session():
    """One session for all cells of this module."""
    with open_session(tools={"echo": lambda value: value}) as one:
        yield one


class TestCells:
    @pytest.mark.parametrize("name", ZONES)
    def test_zones_have_the_hosts_rules(self, session, name):
        """A zone that a cell names has the host's offsets, in winter and in summer, also beyond 2037."""
        zone = zoneinfo.ZoneInfo(name)
        expected = [moment.replace(tzinfo=zone).isoformat() for moment in MOMENTS]
        session.assign("moments", MOMENTS)

        cell = f"import zoneinfo\n[m.replace(tzinfo=zoneinfo.ZoneInfo({name!r})).isoformat() for m in moments]"

        assert output(session, cell) == repr(expected)

    def test_conversion(self, session):
        """The usual lines of a model: attach a zone, convert to another."""
        cell = """
from datetime import datetime
from zoneinfo import ZoneInfo
datetime(2024, 3, 31, 1, 30, tzinfo=ZoneInfo("UTC")).astimezone(ZoneInfo("Europe/Berlin")).isoformat()
"""
        assert output(session, cell) == "'2024-03-31T03:30:00+02:00'"

    def test_all_names(self, session):
        """A cell sees the names of the host's zones, without the link to the zone of this machine."""
        cell = "import zoneinfo\nnames = zoneinfo.available_timezones()\nlen(names), 'localtime' in names"

        assert output(session, cell) == repr((len(zone_names()), False))
        assert {"Europe/Berlin", "US/Pacific"} <= zone_names()

    @pytest.mark.parametrize("name", ["Mars/Olympus", "localtime", "PST8", "tzdata.zi", "Europe"])
    def test_unknown_zones(self, session, name):
        """The error for an unknown zone says where the names are."""
        result = session.run_cell(f"import zoneinfo\nzoneinfo.ZoneInfo({name!r})")

        assert isinstance(result, Failed)
        assert result.error_type == "ZoneInfoNotFoundError"
        assert "zoneinfo.available_timezones() returns the names of all" in result.message

    def test_threads_and_tasks(self, session):
        """Zones are read in threads and in coroutines too."""
        cell = """
import asyncio
from concurrent.futures import ThreadPoolExecutor
from zoneinfo import ZoneInfo
with ThreadPoolExecutor(3) as pool:
    print([zone.key for zone in pool.map(ZoneInfo, ["Asia/Seoul", "Asia/Dubai", "Africa/Cairo"])])
async def read(name):
    return ZoneInfo(name).key
print(await asyncio.gather(read("Asia/Baku"), read("Asia/Hebron")))
"""
        assert output(session, cell).splitlines() == [
            "['Asia/Seoul', 'Asia/Dubai', 'Africa/Cairo']",
            "['Asia/Baku', 'Asia/Hebron']",
        ]

    def test_a_zone_of_a_cell_comes_back(self, session):
        """A datetime whose zone a cell has chosen has that zone on the host, in both readings of a repeated hour."""
        cell = """
from datetime import datetime
from zoneinfo import ZoneInfo
at = datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Rome"))
SUBMIT([at, at.replace(fold=1)])
"""
        result = session.run_cell(cell)

        assert isinstance(result, Submitted)
        first, second = result.outputs["output"]
        assert first.tzinfo is second.tzinfo is zoneinfo.ZoneInfo("Europe/Rome")
        assert [at.utcoffset() for at in (first, second)] == [
            datetime.timedelta(hours=2),
            datetime.timedelta(hours=1),
        ]

    def test_a_time_of_day_in_a_zone_comes_back(self, session):
        """A time of day keeps its zone, both ways: without it, the time would mean another one."""
        at = datetime.time(7, 30, tzinfo=zoneinfo.ZoneInfo("Asia/Tokyo"))
        session.assign("at", at)
        result = session.run_cell("SUBMIT([at, at.tzinfo.key, at.replace(tzinfo=None)])")

        assert isinstance(result, Submitted)
        assert result.outputs["output"] == [at, "Asia/Tokyo", datetime.time(7, 30)]
        assert result.outputs["output"][0].tzinfo is at.tzinfo

    def test_a_column_with_a_zone(self, session):
        """A column of aware times keeps its zone in a cell and on the way back."""
        frame = pd.DataFrame(
            {"at": pd.date_range("2024-03-30", periods=2, freq="D", tz="Europe/Berlin")}
        )
        session.assign("frame", frame)

        cell = "[(t.isoformat(), t.tzinfo.key) for t in frame['at']]"
        assert output(session, cell) == repr(
            [
                ("2024-03-30T00:00:00+01:00", "Europe/Berlin"),
                ("2024-03-31T00:00:00+01:00", "Europe/Berlin"),
            ]
        )
        result = session.run_cell("SUBMIT(frame)")
        assert isinstance(result, Submitted)
        assert [row["at"] for row in result.outputs["output"]] == [*frame["at"]]

    def test_the_clock_is_in_utc(self, session):
        """The sandbox does not know the zone of the host: local time is UTC."""
        cell = "import time\ntime.tzname[0], time.localtime()[:5] == time.gmtime()[:5]"

        assert output(session, cell) == "('UTC', True)"

    def test_a_recovered_session_has_the_zone(self):
        """After its process was lost, a session still has the zones that its cells have read."""
        with open_session() as session:
            output(session, "import zoneinfo\nzone = zoneinfo.ZoneInfo('Asia/Tokyo')")
            assert isinstance(session.run_cell("b = bytearray(1)\nwhile True: b += b"), Failed)

            assert output(session, "zone.key, zoneinfo.ZoneInfo('Asia/Tokyo') is zone") == repr(
                ("Asia/Tokyo", True)
            )

    def test_a_cell_plants_no_code_between_cells(self, session):
        """Code that a cell puts into `zoneinfo` does not run when the host assigns a datetime with a zone."""
        planted = """
import zoneinfo
from zoneinfo import _common, _tzpath
ran = []
def planted(key):
    ran.append(key)
    raise KeyError(key)
_common.load_tzdata = _tzpath.find_tzfile = zoneinfo.ZoneInfo.__class_getitem__ = planted
"""
        session.run_cell(planted)
        zone = zoneinfo.ZoneInfo("Pacific/Fiji")

        session.assign("at", datetime.datetime(2024, 1, 1, tzinfo=zone))

        assert output(session, "ran, at.tzinfo.key") == "([], 'Pacific/Fiji')"


class TestHost:
    @pytest.mark.parametrize(
        "key",
        [
            *("localtime", "../../../etc/passwd", "/etc/passwd", "Europe/../Europe/Berlin", ""),
            *(
                "Europe/Berlin\0",
                "tzdata.zi",
                "posixrules",
                3,
                b"UTC",
                ["UTC"],
                {},
                "x" * 10_000_000,
            ),
        ],
    )
    def test_only_known_names_become_paths(self, key):
        """A call of a cell reads no file but those of the zones that are listed."""
        assert serve_zone(key) is None

    def test_answers(self):
        """A call returns the file of a zone, or without a name the names of all."""
        data = serve_zone("Europe/Berlin")

        assert isinstance(data, bytes)
        assert data.startswith(b"TZif")
        assert serve_zone() == sorted(zone_names())

    def test_a_machine_without_a_database(self):
        """A zone that this machine does not have has no file."""
        assert zone_data("Area/Nowhere") is None
