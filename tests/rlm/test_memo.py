"""Kept answers of sub-LMs: the file, and what is asked again."""

from __future__ import annotations

import json
import threading

import pytest

from dspy_rlm import RLM, SignatureError
from dspy_rlm.lms.kept_answers.memo import FORMAT_VERSION, Memo
from dspy_rlm.testing import Fault


@pytest.fixture
def memo(tmp_path):
    """A memo in a new file."""
    memo = Memo(tmp_path / "folder" / "answers.sqlite")
    yield memo
    memo.close()


class TestFile:
    """Answers survive the process; whatever is wrong with the file costs no call."""

    def test_an_answer_is_there_for_the_next_process(self, memo):
        memo.put(b"1", "m", ["yes", {"text": "no"}])
        other = Memo(memo.path)
        assert other.get(b"1") == ["yes", {"text": "no"}]
        assert other.get(b"2") is None
        other.close()

    def test_what_is_no_plain_data_is_not_kept(self, memo):
        for answer in ([object()], "text", None, [{1: "a key that JSON changes"}]):
            memo.put(b"1", "m", answer)
        assert memo.get(b"1") is None

    def test_the_least_recently_used_are_dropped(self, tmp_path):
        memo = Memo(tmp_path / "a.sqlite", max_chars=100_000)
        for number in range(100):
            memo.put(b"%d" % number, "m", ["x" * 5_000])
            assert memo.get(b"0") is not None
        kept = [number for number in range(100) if memo.get(b"%d" % number)]
        assert 5 < len(kept) < 25
        assert kept[0] == 0
        assert kept[-1] == 99
        memo.close()

    def test_a_file_of_another_version_begins_anew(self, memo):
        memo.put(b"1", "m", ["yes"])
        memo._file.execute(f"pragma user_version = {FORMAT_VERSION + 1}")
        other = Memo(memo.path)
        assert other.get(b"1") is None
        other.close()

    def test_a_file_that_is_something_else_is_refused(self, tmp_path):
        path = tmp_path / "a.sqlite"
        path.write_text("no database" * 100)
        with pytest.raises(OSError, match="cannot be used for answers"):
            Memo(path)

    def test_a_damaged_answer_is_asked_again(self, memo):
        memo.put(b"1", "m", ["yes"])
        memo._file.execute("update answers set answer = '[\"ye'")
        with pytest.warns(RuntimeWarning, match="are not kept in"):
            assert memo.get(b"1") is None

    def test_threads_share_it(self, memo):
        def use(number):
            for round_ in range(20):
                digest = b"%d %d" % (number, round_)
                memo.put(digest, "m", [f"{number} {round_}"])
                results.append(memo.get(digest) == [f"{number} {round_}"])

        results = []
        threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [True] * 160


CODE = "SUBMIT([sub_llm(f'about {line}') for line in docs.splitlines()])"


class TestRuns:
    """Asking again over a corpus asks about what has changed."""

    def test_only_new_questions_are_asked(self, play, tmp_path):
        rlm, server = play(
            "docs -> answers: list[str]",
            CODE,
            sub=lambda request: f"<{request.prompt}>",
            memo=tmp_path / "answers.sqlite",
        )
        first = rlm(docs="a\nb\nc")
        requests_ = len(server.requests_to("sub"))
        again = rlm(docs="a\nb\nd")

        assert (requests_, len(server.requests_to("sub"))) == (3, 4)
        assert first.answers == ["<about a>", "<about b>", "<about c>"]
        assert again.answers == ["<about a>", "<about b>", "<about d>"]
        assert [call.cached for call in again.run.sub_calls] == [True, True, False]
        assert again.run.llm_calls == 1

    def test_equal_calls_of_one_run_are_different_questions(self, play, tmp_path):
        """A vote of several answers to one prompt stays a vote, and is kept as a whole."""
        counted = iter(range(100))
        rlm, server = play(
            "q -> answers: list[str]",
            "SUBMIT([sub_llm('x') for _ in range(3)])",
            sub=lambda _: str(next(counted)),
            memo=tmp_path,
        )
        assert [rlm(q="?").answers for _ in range(2)] == [["0", "1", "2"]] * 2
        assert len(server.requests_to("sub")) == 3

    def test_a_cut_answer_is_asked_again(self, play, tmp_path):
        """Only whole answers are kept."""
        body = {
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }  # fmt: skip
        rlm, server = play("q -> a", "SUBMIT(sub_llm('x'))", sub=lambda _: "whole", memo=tmp_path)
        server.fail("sub", Fault(status=200, body=json.dumps(body)))
        assert rlm(q="?").a.startswith("ab\n[Note]")
        assert rlm(q="?").a == "whole"

    def test_what_cannot_be_a_memo_is_refused_at_once(self, tmp_path):
        (tmp_path / "text").write_text("no database" * 100)
        with pytest.raises(SignatureError, match="cannot be used for answers"):
            RLM("q -> a", memo=tmp_path / "text")
        with pytest.raises(SignatureError, match="memo must be a file or a folder"):
            RLM("q -> a", memo=5)
