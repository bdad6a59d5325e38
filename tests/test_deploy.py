"""The files of `deploy/`: what they promise about the worker's rights can be read from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"


@pytest.fixture(scope="module")
def documents() -> dict[str, Any]:
    """The documents of the manifest by their kind."""
    text = (DEPLOY / "kuberay.yaml").read_text("utf-8")
    return {one["kind"]: one for one in yaml.safe_load_all(text)}


def pods(cluster: Any) -> list[Any]:
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_no_pod_runs_as_root(documents):
    """Nor can it become root, and it has no account in the cluster."""
    for pod in pods(documents["RayCluster"]):
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"] == container["resources"]["requests"]


def test_only_workers_have_the_keys(documents):
    """The head runs nothing that calls an LM."""
    head, worker = pods(documents["RayCluster"])

    assert "envFrom" not in head["containers"][0]
    assert worker["containers"][0]["envFrom"] == [{"secretRef": {"name": "llm-keys"}}]


def test_the_network_ends_at_the_cluster_and_the_lm(documents):
    """No rule allows everything."""
    policy = documents["NetworkPolicy"]["spec"]

    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert all(rule.get("to") for rule in policy["egress"])
    assert all(rule.get("from") for rule in policy["ingress"])


def test_the_volume_of_the_jobs_is_shared(documents):
    """Runs that are under way go on in another worker."""
    assert documents["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_image_has_the_engine_and_no_root():
    """The engine is installed by the user that runs it, as it is in that user's cache."""
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    stage = text.rpartition("\nFROM ")[2]

    assert "slim" in stage.splitlines()[0]
    assert stage.index("USER 10001") < stage.index("sandbox_runtime install")
    assert stage.count("USER ") == 1
