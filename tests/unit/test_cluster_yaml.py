"""cluster.yaml against Ray's own schema, and what the schema does not see."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cluster() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return loaded


def check(cluster: dict[str, Any]) -> None:
    """What `ray up` does before it calls the cloud (private to Ray; constraints.txt pins its version)."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(cluster))


def test_ray_accepts_it(cluster: dict[str, Any]) -> None:
    check(cluster)


@pytest.mark.parametrize("change", [{"head_node_type": "nobody"}, {"max_worker": 3}, {"max_workers": "three"}])
def test_the_check_refuses_mistakes(cluster: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"head_node_type|max_worker|three"):
        check(cluster | change)


def test_the_head_has_no_gpu_and_the_workers_fit(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    head = types.pop(cluster["head_node_type"])
    assert "GPU" not in head["resources"]
    for worker in types.values():
        assert worker["resources"]["GPU"] >= 1
        assert worker["min_workers"] == 0, "an idle cluster costs the head only"
        assert worker["max_workers"] <= cluster["max_workers"]
    assert any(
        worker["node_config"].get("InstanceMarketOptions", {}).get("MarketType") == "spot" for worker in types.values()
    )


def test_only_ssh_is_open(cluster: dict[str, Any]) -> None:
    rules = cluster["provider"]["security_group"]["IpPermissions"]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in rules] == [(22, 22)]


def test_every_ray_start_asks_for_the_token(cluster: dict[str, Any]) -> None:
    starts = [line for side in ("head", "worker") for line in cluster[f"{side}_start_ray_commands"] if "start" in line]
    assert len(starts) == 2
    for line in starts:
        assert "RAY_AUTH_MODE=token" in line.partition("ray start")[0]
    assert "--dashboard-host=127.0.0.1" in starts[0]


def test_versions_are_those_tested(cluster: dict[str, Any]) -> None:
    constraints = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    for image in (cluster["docker"]["head_image"], cluster["docker"]["worker_image"]):
        assert image.split(":")[1].startswith(f"{constraints['ray']}-py311")
    assert f'"torch=={constraints["torch"]}"' in " ".join(cluster["setup_commands"])
    assert constraints["ray"] == version("ray")


def test_nothing_private_is_copied(cluster: dict[str, Any]) -> None:
    assert {".git", ".venv", ".env", ".stillhouse", "runs"} <= set(cluster["rsync_exclude"])


@pytest.fixture
def local() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "local.yaml").read_text())
    return loaded


def test_own_machines_are_accepted_and_mistakes_refused(local: dict[str, Any]) -> None:
    check(local)
    for change in ({"max_worker": 3}, {"auth": {"ssh_usr": "me"}}, {"provider": {"type": "local"}}):
        with pytest.raises(Exception, match=r"max_worker|ssh_usr|head_ip"):
            check(local | change)
    # All that are listed are used.
    assert local["min_workers"] == local["max_workers"] == len(local["provider"]["worker_ips"])


def test_own_machines_have_the_same_rules_as_the_cloud(local: dict[str, Any], cluster: dict[str, Any]) -> None:
    for side in ("head", "worker"):
        ours, theirs = (one[f"{side}_start_ray_commands"][-1] for one in (local, cluster))
        # Python of the environment there; all else is word for word the same.
        assert ours.replace("~/stillhouse/.venv/bin/", "").split() == theirs.split()
    assert local["rsync_exclude"] == cluster["rsync_exclude"]
    constraints = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert f'"torch=={constraints["torch"]}"' in " ".join(local["setup_commands"])
