"""The Kubernetes manifests: fields that the operator knows, resources that can be scheduled, entrypoints that parse."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from handface.jobs.cli import BY_NAME

FOLDER = Path(__file__).parents[3] / "deploy" / "kuberay"
# RayClusterSpec, RayJobSpec, HeadGroupSpec and WorkerGroupSpec of ray.io/v1, as documented for KubeRay 1.5
CLUSTER = {
    *("rayVersion", "enableInTreeAutoscaling", "autoscalerOptions", "authOptions", "headGroupSpec", "workerGroupSpecs"),
    *("gcsFaultToleranceOptions", "suspend", "headServiceAnnotations", "managedBy", "upgradeStrategy"),
}
JOB = {
    *("entrypoint", "runtimeEnvYAML", "rayClusterSpec", "submissionMode", "backoffLimit", "activeDeadlineSeconds"),
    *("shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "suspend", "clusterSelector", "jobId", "metadata"),
    *("entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "deletionStrategy", "submitterPodTemplate"),
}
GROUP = {"rayStartParams", "template", "serviceType", "headService", "enableIngress", "resources", "labels"}
WORKERS = (GROUP - {"headService"}) | {
    "groupName",
    "minReplicas",
    "replicas",
    "maxReplicas",
    "idleTimeoutSeconds",
    "numOfHosts",
    "suspend",
}


def manifest(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return document


def cluster_of(name: str) -> dict[str, Any]:
    spec = manifest(name)["spec"]
    cluster: dict[str, Any] = spec.get("rayClusterSpec", spec)
    return cluster


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_fields_are_the_operators(name: str) -> None:
    document = manifest(name)
    assert document["apiVersion"] == "ray.io/v1"
    if document["kind"] == "RayJob":
        assert set(document["spec"]) <= JOB
    cluster = cluster_of(name)
    assert set(cluster) <= CLUSTER and set(cluster["headGroupSpec"]) <= GROUP
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        assert set(group) <= WORKERS
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_the_cluster_runs_the_ray_that_is_tested(name: str) -> None:
    assert cluster_of(name)["rayVersion"] == ray.__version__


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_every_container_asks_for_what_it_may_use(name: str) -> None:
    cluster = cluster_of(name)
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        for container in group["template"]["spec"]["containers"]:
            resources = container["resources"]
            assert container["envFrom"] == [{"secretRef": {"name": "handface-storage", "optional": True}}]
            assert resources["requests"] == resources["limits"], "Ray counts limits, the scheduler requests"
            assert {"cpu", "memory"} <= set(resources["limits"])


def test_the_job_runs_a_verb() -> None:
    python, dash, module, *_ = shlex.split(manifest("rayjob.yaml")["spec"]["entrypoint"])
    assert (python, dash) == ("python", "-m") and module.removeprefix("handface.jobs.") in BY_NAME


def test_the_image_reads_buckets() -> None:
    dockerfile = (FOLDER.parent / "Dockerfile").read_text()
    assert "ARG EXTRAS=cluster,s3" in dockerfile and 'constraints.txt ".[${EXTRAS}]"' in dockerfile


def test_the_documentation_applies_the_files_one_by_one() -> None:
    """`kubectl apply -f FOLDER` would start the job's cluster beside the other."""
    page = (FOLDER.parents[1] / "docs" / "data_engineer.md").read_text()
    applied = set(re.findall(r"kubectl apply -f (\S+)", page))
    assert applied == {f"deploy/kuberay/{path.name}" for path in FOLDER.glob("*.yaml")}


def test_the_image_holds_every_package() -> None:
    dockerfile = (FOLDER.parent / "Dockerfile").read_text()
    root = FOLDER.parents[1]
    packages = [p.parent.name for p in root.glob("*/__init__.py") if p.parent.name not in ("tests", "benchmarks")]
    assert packages and all(f"COPY {name} {name}" in dockerfile for name in packages)
