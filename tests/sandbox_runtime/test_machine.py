"""The processors and the memory of a container, as control groups of both versions state them."""

from __future__ import annotations

import os

import pytest

from sandbox_runtime.admission import FEWEST, SESSION_BYTES, default_bound
from sandbox_runtime.machine import available_bytes, cpus, memory_bytes

MANY = float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.fixture
def system(tmp_path):
    """Writes the files of a system by their paths."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


V2 = {"proc/self/cgroup": "0::/\n"}
V1 = {"proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/\n"}


class TestCpus:
    def test_a_quota_of_version_2(self, system):
        """`docker run --cpus=0.5` and Kubernetes' limits are quotas of time."""
        assert cpus(system(**V2, **{"sys/fs/cgroup/cpu.max": "50000 100000\n"})) == 0.5

    def test_no_quota_of_version_2(self, system):
        """Without one, the processors that the process may run on count."""
        assert cpus(system(**V2, **{"sys/fs/cgroup/cpu.max": "max 100000\n"})) == MANY

    @pytest.mark.parametrize("folder", ["cpu", "cpu/docker/abc"])
    def test_a_quota_of_version_1(self, system, folder):
        """In the group of the process, or above it: inside of a container only the top is there."""
        files = {
            f"sys/fs/cgroup/{folder}/cpu.cfs_quota_us": "25000\n",
            f"sys/fs/cgroup/{folder}/cpu.cfs_period_us": "100000\n",
        }

        assert cpus(system(**V1, **files)) == 0.25

    def test_no_quota_of_version_1(self, system):
        """The kernel writes -1 for none."""
        files = {
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        }

        assert cpus(system(**V1, **files)) == MANY

    def test_the_smallest_of_all_groups_around_the_process(self, system):
        """A limit holds for all groups below it."""
        files = {
            "proc/self/cgroup": "0::/user.slice/work\n",
            "sys/fs/cgroup/user.slice/work/cpu.max": "80000 100000\n",
            "sys/fs/cgroup/user.slice/cpu.max": "70000 100000\n",
            "sys/fs/cgroup/cpu.max": "max 100000\n",
        }

        assert cpus(system(**files)) == 0.7

    def test_another_system(self, tmp_path):
        """Without such files, the processors count."""
        assert cpus(tmp_path) == MANY


class TestMemory:
    @pytest.mark.parametrize(
        ("groups", "name"),
        [(V2, "memory.max"), (V1, "memory/docker/abc/memory.limit_in_bytes")],
        ids=["version 2", "version 1"],
    )
    def test_the_limit_of_a_container(self, system, groups, name):
        """It counts where it is less than the machine has."""
        assert memory_bytes(system(**groups, **{f"sys/fs/cgroup/{name}": "5000000\n"})) == 5_000_000

    def test_no_limit_of_version_1(self, system):
        """The kernel writes the largest number of pages for none, so the machine's memory counts."""
        file = {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}

        assert memory_bytes(system(**V1, **file)) == memory_bytes(system())

    def test_the_rest_of_a_container_of_version_1(self, system):
        """The files that it caches can go."""
        folder = "sys/fs/cgroup/memory"
        files = {
            f"{folder}/memory.limit_in_bytes": "2000000\n",
            f"{folder}/memory.usage_in_bytes": "1900000\n",
            f"{folder}/memory.stat": "cache 7\ntotal_active_file 100000\ntotal_inactive_file 300000\n",
        }

        assert available_bytes(system(**V1, **files)) == 500_000


class TestBound:
    def test_a_small_container_has_a_small_bound(self, system):
        """Eight sessions a processor, and half of the memory: of the container, not of the machine."""
        files = {"sys/fs/cgroup/cpu.max": "75000 100000\n"}
        assert default_bound(system(**V2, **files)) == 6

        memory = {"sys/fs/cgroup/memory.max": f"{10 * SESSION_BYTES}\n"}
        assert default_bound(system(**memory)) == 5

    def test_a_tiny_container_runs_nested_runs_too(self, system):
        """The bound is never below a few sessions."""
        assert default_bound(system(**V2, **{"sys/fs/cgroup/memory.max": "1000\n"})) == FEWEST

    def test_the_user_can_set_it(self, system, monkeypatch):
        """`DSPY_RLM_MAX_SESSIONS` is the number for the node."""
        monkeypatch.setenv("DSPY_RLM_MAX_SESSIONS", "77")

        assert default_bound(system(**V2)) == 77

    @pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "²"])
    def test_what_is_no_number_is_refused(self, monkeypatch, value):
        """A typing error must not mean the default."""
        monkeypatch.setenv("DSPY_RLM_MAX_SESSIONS", value)

        with pytest.raises(ValueError, match="DSPY_RLM_MAX_SESSIONS must be a whole number"):
            default_bound()
