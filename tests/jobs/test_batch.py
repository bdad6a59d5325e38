"""Jobs with real runs: what every engine runs a row by, and what is kept of a row that was under way."""

from __future__ import annotations

import asyncio
import itertools
import json

import dspy
import pytest

import dspy_rlm
from dspy_rlm.jobs.batch import _engine
from dspy_rlm.jobs.binding import bound
from dspy_rlm.jobs.engine import Program, Row, Verdict
from dspy_rlm.jobs.job_journal import JobJournal
from dspy_rlm.jobs.recorded_costs import prices_of, spent_by_run
from dspy_rlm.jobs.row_run import journal_of, run_row
from dspy_rlm.jobs.unfinished import spent_by_unfinished
from dspy_rlm.limiting.job_quota import JobQuota
from dspy_rlm.testing import Action, Counted, Fault, PolicyServer, scripted
from tests.thrifty_pool import ThriftyPool

STEPS = (
    Action("Look.", "print(len(text))"),
    Action("Ask.", "mark = sub_llm('one word')"),
    Action("Done.", "SUBMIT(answer=text.upper() + mark)"),
)

# Dollars for a million tokens.
PRICES = {"root": (100.0, 100.0), "sub": (100.0, 100.0)}


@pytest.fixture(scope="module")
def pool():
    pool = ThriftyPool(max_sessions=2)
    yield pool
    pool.close()


@pytest.fixture
def server():
    # A name with a price, for caps in dollars.
    with PolicyServer({"gpt-4o-mini": scripted(*STEPS), "sub": lambda _: "!"}) as server:
        yield server


@pytest.fixture
def rlm(server, pool):
    rlm = dspy_rlm.RLM(
        "text: str -> answer: str", pool=pool, sub_lm=server.lm("sub"), prices={"sub": (1.0, 4.0)}
    )
    rlm.set_lm(server.lm("gpt-4o-mini"))
    return rlm


@pytest.fixture
def run(rlm, tmp_path):
    """Runs one row as an engine does."""
    program = Program(bound(rlm), runs=tmp_path / "runs")

    def run(text="a", quota=None, program=program):
        return asyncio.run(run_row(program, Row("k", {"text": text}), quota or JobQuota()))

    run.journal = journal_of(tmp_path / "runs", "k")
    return run


def closing(quota, turn):
    """A predicate of requests that closes the quota at a turn; no request goes wrong."""
    turns = itertools.count(1)

    def close(_request):
        if next(turns) == turn:
            quota.close()
        return False

    return close


class TestRow:
    def test_an_outcome_is_plain_data(self, run):
        """With the outputs, what the run took, and its steps."""
        outcome = run()

        assert (outcome.status, outcome.outputs, outcome.verdict) == (
            "submitted",
            {"answer": "A!"},
            Verdict.FINAL,
        )
        assert (outcome.llm_calls, outcome.iterations) == (1, 3)
        assert [step["code"] for step in outcome.trajectory] == [step.code for step in STEPS]

    def test_a_wrong_input_is_an_outcome(self, run):
        """Nothing is raised, and nothing was sent."""
        outcome = run(text=5)

        assert outcome.status == "failed"
        assert outcome.error.startswith("InputError: ")
        assert outcome.verdict is Verdict.FINAL

    @pytest.mark.nightly
    def test_a_row_goes_on_where_its_lm_was_away(self, run, server):
        """The next attempt pays nothing again: the cell that was stopped runs again, with the answers that it had."""
        server.fail("sub", Fault(status=404, message="not here", times=1))
        away = run()
        assert away.status == "failed"
        assert away.verdict is Verdict.AGAIN
        assert run.journal.exists()
        paid = len(server.requests_to("gpt-4o-mini"))

        outcome = run()

        assert outcome.outputs == {"answer": "A!"}
        assert len(server.requests_to("gpt-4o-mini")) == paid + 1

    def test_a_wrong_key_would_fail_every_row(self, run, server):
        """It stops the job."""
        server.fail("gpt-4o-mini", Fault(status=401, message="Incorrect API key provided"))

        assert run().verdict is Verdict.STOPS_JOB

    def test_the_end_of_the_money_leaves_the_row_open(self, run, server):
        """Its next call is refused and ends the run at once; with more money it goes on without paying again."""
        quota = JobQuota(max_cost=100.0)
        # The second turn's answer arrives; the call of its code is refused.
        server.fail("gpt-4o-mini", Fault(delay_seconds=0.001, only=closing(quota, turn=2)))

        stopped = run(quota=quota)

        assert stopped.verdict is Verdict.UNFINISHED
        assert len(server.requests_to("gpt-4o-mini")) == 2
        assert server.requests_to("sub") == []
        assert run().outputs == {"answer": "A!"}
        assert len(server.requests) == 4

    def test_all_calls_of_a_row_are_on_the_quota(self, run, server, monkeypatch):
        """Turns and sub-calls, each with a bound that was not exceeded; all of it is settled."""
        quota = JobQuota(max_cost=1.0)
        taken = []
        take = quota.take

        def watched(model, tokens, cost, **options):
            taken.append((model, cost, options["first"]))
            return take(model, tokens, cost, **options)

        monkeypatch.setattr(quota, "take", watched)
        outcome = run(quota=quota)

        assert [(model, first) for model, _, first in taken] == [
            ("openai/gpt-4o-mini", True),
            ("openai/gpt-4o-mini", True),
            ("openai/sub", False),
            ("openai/gpt-4o-mini", True),
        ]
        assert quota.reserved == 0.0
        assert 0 < quota.spent < sum(cost for _, cost, _ in taken)
        assert outcome.status == "submitted"

    @pytest.mark.nightly
    def test_a_row_with_other_inputs_begins_anew(self, run, server):
        """The journal of an interrupted row of the same key is of other inputs."""
        server.fail("sub", Fault(status=404, message="not here", times=1))
        run()

        assert run(text="other").outputs == {"answer": "OTHER!"}


@pytest.fixture
def job(pool, tmp_path):
    """Runs a job of so many rows on a server with the models `root` and `sub`."""

    def job(server, count, prices=PRICES, engine="auto", **options):
        lms = [
            server.lm(name, engine=engine, max_tokens=most)
            for name, most in (("root", 200), ("sub", 20))
        ]
        rlm = dspy_rlm.RLM("text: str -> answer: str", pool=pool, sub_lm=lms[1], prices=prices)
        rlm.set_lm(lms[0])
        rows = [{"id": i, "text": f"t{i}"} for i in range(count)]
        return dspy_rlm.batch(rlm, rows, out=tmp_path / "job", key="id", **options)

    return job


class TestUnknownMoney:
    """What has no known cost is never free: it counts at its bound, or ends the job."""

    def test_a_model_without_a_price_ends_the_job_after_one_call(self, job):
        """An engine that is not DSPy's own may know its price, so the first answer says it. With `prices=` the job goes on."""
        models = {"root": scripted(*STEPS), "sub": lambda _: "!"}
        with PolicyServer(models) as server:
            with pytest.raises(dspy_rlm.JobError, match="prices=") as stopped:
                job(server, 3, prices=None, engine="litellm", max_cost=5.0)
            assert len(server.requests) == 1
            assert stopped.value.report.rows == 0

            with pytest.raises(dspy_rlm.JobError, match=r"max_cost=\$5 cannot be kept"):
                job(server, 3, prices=None, engine="litellm", max_cost=5.0)
            assert len(server.requests) == 1

            report = job(server, 3, engine="litellm", max_cost=5.0)

            assert report.counts == {"submitted": 3}
            assert len(server.requests) == 3 * 4
        assert report.cost == pytest.approx(sum(row["cost"] for row in report))

    def test_costs_in_headers_are_waited_for(self, job):
        """A proxy reports each cost with its answer: such calls go one at a time, so the job ends in time."""
        under_way, most = [], []

        def dear(player):
            def play(request):
                under_way.append(1)
                most.append(len(under_way))
                reply = player(request)
                under_way.pop()
                return Counted(reply, 10, 10, cost=0.05)

            return play

        models = {"root": dear(scripted(*STEPS)), "sub": dear(lambda _: "!")}
        with PolicyServer(models) as server:
            report = job(server, 6, prices=None, engine="litellm", max_cost=0.32)

            assert len(server.requests) == 6
        assert set(most) == {1}
        assert report.stopped_by == "max_cost"
        assert report.cost == pytest.approx(0.3)

    def test_rows_with_lost_answers_count_in_later_calls(self, job):
        """Their cost is unknown, and each call of the job must find what those before have booked."""
        code = "try:\n    sub_llm('one word')\nexcept Exception:\n    pass\nSUBMIT(answer='x')"
        models = {"root": scripted(Action("Ask.", code)), "sub": lambda _: "!"}
        with PolicyServer(models) as server:
            server.fail("sub", Fault(status=504, message="gateway timeout", times=None))
            reports = [job(server, count, max_cost=1.0) for count in (2, 4, 100)]

            lost = len(server.requests_to("sub"))
        first, second, last = reports
        assert [report.stopped_by for report in reports] == ["finished", "finished", "max_cost"]
        assert second.cost == pytest.approx(2 * first.cost, rel=0.01)
        assert lost * 20 * 100 / 1e6 < last.cost <= 1.0
        assert not any(report.cost_is_exact for report in reports)

    def test_a_row_of_a_dead_process_counts_what_was_reserved(self, run, server, rlm, tmp_path):
        """One answer was lost, and the process was killed while it waited for another one."""
        server.fail("sub", Fault(status=504, message="gateway timeout", times=1))
        quota = JobQuota(max_cost=100.0)
        assert run(quota=quota).booked == pytest.approx(quota.spent)
        prices = prices_of(rlm)
        assert spent_by_run(run.journal, prices) == pytest.approx(quota.spent)
        lines = run.journal.read_bytes().splitlines(keepends=True)
        events = [json.loads(line) for line in lines]
        sent = [at for at, event in enumerate(events) if event["e"] == "sent"]

        run.journal.write_bytes(b"".join(lines[: sent[3] + 1]))  # as SIGKILL leaves it

        found = spent_by_unfinished(tmp_path / "runs", JobJournal(tmp_path), prices)
        known = [event["cost"] for event in events[: sent[3]] if event["e"] == "attempt"]
        assert known[2] is None
        bounds = [events[at]["reserved"][1] for at in sent[2:4]]
        assert found.unbounded == 0
        assert found.cost == pytest.approx(sum(known[:2]) + sum(bounds))

    def test_a_server_that_counts_nothing_is_not_free(self, job):
        """A usage of zero says that it does not count, so the calls of a job count at their bounds."""
        root = scripted(*STEPS)
        models = {"root": lambda request: Counted(root(request), 0, 0), "sub": lambda _: "!"}
        with PolicyServer(models) as server:
            report = job(server, 20, max_cost=2.0)

        assert report.stopped_by == "max_cost"
        assert 0 < report.cost <= 2.0
        assert not report.cost_is_exact


class TestProgram:
    def test_a_program_travels_with_its_lms_and_without_keys(self, rlm, server, monkeypatch):
        """A worker has no `dspy.configure` of the driver's; it checks its keys before the first row."""
        rlm.generate_action.lm = None
        lm = dspy.LM("openai/gpt-4o-mini", api_key="sk-proj-0123456789abcdefABCDEF")
        with dspy.context(lm=lm):
            program = Program(bound(rlm))
        data = program.packed()
        assert b"0123456789abcdefABCDEF" not in data
        arrived = Program.unpacked(data)
        assert arrived.rlm.generate_action.lm.model == "openai/gpt-4o-mini"

        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        with pytest.raises(dspy.LMNotConfiguredError, match="no API key"):
            arrived.check()
        monkeypatch.setenv("OPENAI_API_KEY", "x")
        arrived.check()

    def test_an_rlm_is_needed(self, tmp_path):
        """Another module has no signature for rows."""
        with pytest.raises(dspy_rlm.SignatureError, match=r"needs a dspy_rlm\.RLM"):
            dspy_rlm.batch(dspy.Predict("a -> b"), [], out=tmp_path)

    def test_an_lm_is_needed(self, tmp_path):
        """Before the folder has anything in it."""
        with dspy.context(lm=None), pytest.raises(dspy.LMNotConfiguredError):
            dspy_rlm.batch(dspy_rlm.RLM("a -> b"), [], out=tmp_path)


class TestJob:
    @pytest.mark.nightly
    def test_rows_have_answers(self, rlm, tmp_path):
        """From a list to a file, with the steps beside it."""
        rows = [{"id": i, "text": f"t{i}"} for i in range(3)]

        report = dspy_rlm.batch(rlm, rows, out=tmp_path / "job", key="id")

        assert [row["answer"] for row in report] == ["T0!", "T1!", "T2!"]
        assert report.ok
        assert {one.name for one in (tmp_path / "job").iterdir()} == {
            *("program.json", "journal", "trajectories", "rows.jsonl", "report.json", ".lock"),
        }

    @pytest.mark.nightly
    def test_the_money_of_a_job_is_never_exceeded(self, server, pool, tmp_path):
        """It ends before, with rows under way or without; with more money it goes on, and pays nothing again."""
        rlm = dspy_rlm.RLM(
            "text: str -> answer: str",
            pool=pool,
            sub_lm=server.lm("sub", max_tokens=20),
            prices={"gpt-4o-mini": (100.0, 100.0), "sub": (100.0, 100.0)},
        )
        rlm.set_lm(server.lm("gpt-4o-mini", max_tokens=200))
        rows = [{"id": i, "text": f"t{i}"} for i in range(8)]
        spent = []
        for max_cost in (1.2, 2.4, 100.0):
            report = dspy_rlm.batch(rlm, rows, out=tmp_path, key="id", max_cost=max_cost)
            assert report.cost <= max_cost
            spent.append(report.cost)

        assert spent == sorted(spent)
        assert 0 < spent[0] < spent[1] < spent[2]
        assert report.counts == {"submitted": 8}
        assert len(server.requests) == 8 * 4
        assert report.cost == pytest.approx(sum(row["cost"] for row in report))

    def test_columns_with_other_names_are_found_at_once(self, rlm, server, tmp_path):
        """Not after a million rows have failed."""
        with pytest.raises(
            dspy_rlm.InputError, match="None of the first 3 rows has the input 'text'"
        ):
            dspy_rlm.batch(rlm, [{"txt": "a"}] * 3, out=tmp_path, key="txt")

        assert server.requests == []

    @pytest.mark.parametrize("out", ["https://example.org/job", "ftp://host/job", "s3://bucket"])
    def test_an_address_without_a_folder_is_refused(self, rlm, out):
        """Nothing is asked of a server."""
        with pytest.raises(dspy_rlm.JobError, match=r"must be a folder|are not read"):
            dspy_rlm.batch(rlm, [{"text": "a"}], out=out)

    @pytest.mark.parametrize("options", [{"attempts": 0}, {"concurrency": 0}, {"progress": 5}])
    def test_wrong_options_are_refused(self, rlm, tmp_path, options):
        """Before the first row."""
        with pytest.raises(dspy_rlm.SignatureError, match=f"{next(iter(options))} must be"):
            dspy_rlm.batch(rlm, [], out=tmp_path, **options)

    def test_an_unknown_engine_is_refused(self):
        """There are two, and those of your own."""
        with pytest.raises(dspy_rlm.SignatureError, match="engine must be"):
            _engine("dask")
