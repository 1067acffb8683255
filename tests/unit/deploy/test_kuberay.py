"""deploy/kuberay: manifests that an API server would take, and what their schema does not see."""

from __future__ import annotations

import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from stillhouse import __version__
from stillhouse.recipe import load_recipe

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "kuberay"
SCHEMA = yaml.safe_load(Path(__file__).with_name("kuberay.schema.yaml").read_text())
OBJECTS: list[dict[str, Any]] = [
    one for path in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text())
]
BY_KIND = {one["kind"]: one for one in OBJECTS}
CLUSTER: dict[str, Any] = BY_KIND["RayCluster"]["spec"]


def pods(value: Any) -> list[dict[str, Any]]:
    """Every pod's spec in a manifest."""
    if isinstance(value, list):
        return [pod for one in value for pod in pods(one)]
    if not isinstance(value, dict):
        return []
    return ([value] if "containers" in value else []) + [pod for one in value.values() for pod in pods(one)]


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob"])
def test_the_schema_accepts_it_and_refuses_mistakes(kind: str) -> None:
    check = jsonschema.Draft202012Validator(SCHEMA)
    check.check_schema(SCHEMA)
    check.validate(BY_KIND[kind])
    text = yaml.safe_dump(BY_KIND[kind])
    for right, wrong in (
        ("maxReplicas: 8", "maxReplica: 8"),
        ("maxReplicas: 8", "maxReplicas: eight"),
        ("mode: token", "mode: tokens"),
        ("memory: 32Gi", "memory: 32 Gi"),
        ("num-cpus: '0'", "num-cpus: 0"),
        ("mountPath: /shared", "path: /shared"),
        ("name: stillhouse", "name: Still_House"),
    ):
        assert right in text
        with pytest.raises(jsonschema.ValidationError):
            check.validate(yaml.safe_load(text.replace(right, wrong)))


def test_the_job_has_the_same_cluster() -> None:
    assert BY_KIND["RayJob"]["spec"]["rayClusterSpec"] == CLUSTER


def test_the_head_takes_no_work_and_gpu_workers_come_and_go() -> None:
    assert CLUSTER["enableInTreeAutoscaling"] is True
    head = CLUSTER["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert "nvidia.com/gpu" not in head["template"]["spec"]["containers"][0]["resources"]["limits"]
    for group in CLUSTER["workerGroupSpecs"]:
        assert group["replicas"] == group["minReplicas"] == 0 < group["maxReplicas"]
        resources = group["template"]["spec"]["containers"][0]["resources"]
        assert resources["limits"]["nvidia.com/gpu"] >= 1
        assert resources["requests"] == resources["limits"], "Ray counts limits, the scheduler requests"


def test_versions_are_those_tested() -> None:
    assert CLUSTER["rayVersion"] == version("ray")
    images = {container["image"] for pod in pods(OBJECTS) for container in pod["containers"]}
    assert {image.rpartition(":")[2] for image in images} == {__version__}


def test_nothing_is_open_and_calls_need_the_token() -> None:
    assert CLUSTER["authOptions"] == {"mode": "token"}
    assert CLUSTER["headGroupSpec"]["serviceType"] == BY_KIND["Service"]["spec"]["type"] == "ClusterIP"
    policy = BY_KIND["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == BY_KIND["Service"]["spec"]["selector"]
    (rule,) = policy["ingress"]
    (source,) = rule["from"]
    for group in (CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]):
        assert source["podSelector"]["matchLabels"].items() <= group["template"]["metadata"]["labels"].items()
    assert not {"Secret", "Ingress"} & {one["kind"] for one in OBJECTS}


def test_no_pod_is_root_and_volumes_are_there() -> None:
    assert len(pods(OBJECTS)) == 5
    claims = {one["metadata"]["name"] for one in OBJECTS if one["kind"] == "PersistentVolumeClaim"}
    for pod in pods(OBJECTS):
        assert pod["securityContext"]["runAsNonRoot"] is True
        volumes = {one["name"]: one for one in pod["volumes"]}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
        assert {
            one["persistentVolumeClaim"]["claimName"] for one in volumes.values() if "emptyDir" not in one
        } <= claims


def test_the_command_of_the_job_is_a_right_recipe_on_shared_storage() -> None:
    program, verb, recipe, *options = shlex.split(BY_KIND["RayJob"]["spec"]["entrypoint"])
    assert (program, verb) == ("stillhouse", "run")
    assert set(options[::2]) == {"--set"}
    loaded = load_recipe(recipe, options[1::2])
    from stillhouse.cluster import relative_paths

    assert relative_paths(loaded) == []
    service = BY_KIND["Service"]
    assert loaded.tracking.uri == f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    gpus = CLUSTER["workerGroupSpecs"][0]["maxReplicas"]
    assert 1 <= loaded.scale.num_workers * loaded.scale.gpus_per_worker <= gpus
