from pathlib import Path

import pytest
import yaml

CLUSTER = Path(__file__).parents[3] / "ray_cluster.yaml"


def validated(config: dict) -> dict:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(config)
    validate_config(prepared)
    return prepared


def test_rays_own_schema_accepts_the_cluster():
    prepared = validated(yaml.safe_load(CLUSTER.read_text()))
    assert prepared["head_node_type"] == "head"
    assert set(prepared["available_node_types"]) == {"head", "cpu_worker", "gpu_worker"}


def test_the_head_runs_no_tasks_and_ray_starts_with_token_authentication():
    config = yaml.safe_load(CLUSTER.read_text())
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert any("RAY_AUTH_MODE=token" in command and "ray start" in command for command in config[name])


def test_workers_may_use_storage_and_every_node_has_its_driver():
    config = yaml.safe_load(CLUSTER.read_text())
    for name in ("cpu_worker", "gpu_worker"):
        profile = config["available_node_types"][name]["node_config"]["IamInstanceProfile"]
        assert profile == {"Name": "handface-worker"}
    assert any("handface[cluster,s3]" in command for command in config["setup_commands"])


def test_the_schema_would_notice_a_wrong_key():
    config = yaml.safe_load(CLUSTER.read_text()) | {"max_worker": 3}
    with pytest.raises(Exception, match="max_worker"):
        validated(config)
