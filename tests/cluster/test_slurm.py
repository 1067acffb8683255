"""deploy/slurm/stillhouse.sbatch: three real Ray nodes on one machine, with the scheduler's commands as small scripts.

`srun` runs its command here, as a process of the "node" it was asked for; `hostname` gives that node's address, each
another one of the loopback network. All else is real: the script, Ray, its token, the command and the end of it all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.cluster.ray_nodes import free_port, node_environment

SCRIPT = Path(__file__).parents[2] / "deploy" / "slurm" / "stillhouse.sbatch"

FAKES = {
    "scontrol": 'printf "n1\\nn2\\nn3\\n"',
    "srun": """
for word in "$@"; do
    case "$word" in
        --nodelist=*) export FAKE_NODE="${word#--nodelist=n}"; shift ;;
        --*) shift ;;
        *) break ;;
    esac
done
if [ "$1 $2" = "ray start" ]; then
    set -- "$@" --dashboard-agent-listen-port="$((AGENT_PORT + FAKE_NODE))"
    case "$*" in *--head*) set -- "$@" --dashboard-port="$DASHBOARD_PORT" --temp-dir="$FAKE_TEMP" ;; esac
fi
exec "$@"
""",
    # As some machines answer: two addresses, one of them of IPv6.
    "hostname": 'echo "fe80::$FAKE_NODE 127.0.0.$FAKE_NODE"',
    "stillhouse": """
exec python - "$@" <<'PY'
import os, stat, sys
import ray
token = os.environ["RAY_AUTH_TOKEN_PATH"]
assert stat.S_IMODE(os.stat(token).st_mode) == 0o600 and len(open(token).read()) == 64
ray.init(log_to_driver=False, logging_level="ERROR")
alive = [node for node in ray.nodes() if node["Alive"]]
print("arguments", *sys.argv[1:])
print("addresses", *sorted(node["NodeManagerAddress"] for node in alive))
print("CPUs", int(ray.cluster_resources()["CPU"]))
sys.exit(7)
PY
""",
}


@pytest.fixture
def allocation(tmp_path: Path) -> dict[str, str]:
    """The environment of a batch job of three nodes with one CPU each."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, body in FAKES.items():
        (commands / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (commands / name).chmod(0o755)
    environment = node_environment({"RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300"})
    environment |= {"PATH": f"{commands}:{environment['PATH']}", "SLURM_JOB_NODELIST": "n[1-3]"}
    environment |= {"SLURM_JOB_ID": str(free_port() % 10000), "SLURM_CPUS_PER_TASK": "1", "STILLHOUSE_PATIENCE": "240"}
    environment |= {"STILLHOUSE_RAY_OPTIONS": "--object-store-memory=80000000"}
    # A socket's path is at most 107 characters.
    environment |= {"FAKE_TEMP": f"/tmp/slurm-{os.getpid()}", "AGENT_PORT": str(free_port())}
    return environment | {"DASHBOARD_PORT": str(free_port())}


def test_the_cluster_comes_runs_the_command_and_goes(allocation: dict[str, str], tmp_path: Path) -> None:
    try:
        done = subprocess.run(
            ["bash", str(SCRIPT), "run", "demo", "--set", "output.path=/shared/a b"],
            cwd=tmp_path,
            env=allocation,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    finally:
        shutil.rmtree(allocation["FAKE_TEMP"], ignore_errors=True)
    lines = done.stdout.splitlines()
    assert "3 nodes: 3 CPU, 0 GPU" in lines, done.stdout + done.stderr
    assert "arguments run demo --set output.path=/shared/a b" in lines
    # Three nodes with addresses of their own; Ray may name the head by another of this machine's.
    (addresses,) = [line.split()[1:] for line in lines if line.startswith("addresses")]
    assert len(set(addresses)) == 3
    assert {"127.0.0.2", "127.0.0.3"} <= set(addresses)
    assert "CPUs 3" in lines
    assert done.returncode == 7, "the status of the command is that of the batch job"
    assert not list(tmp_path.glob(".stillhouse/slurm/*")), "the token is gone"
    left = [
        one
        for one in psutil.process_iter(["cmdline"])
        if allocation["FAKE_TEMP"] in " ".join(one.info["cmdline"] or [])
    ]
    assert not left


def test_a_head_that_does_not_start_is_one_line(allocation: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin" / "ray").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "bin" / "ray").chmod(0o755)
    done = subprocess.run(
        ["bash", str(SCRIPT), "run", "demo"], cwd=tmp_path, env=allocation, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: the head on n1 (127.0.0.1:2")
    assert done.stderr.count("\n") == 1


def test_without_a_verb_it_says_how_it_is_called(allocation: dict[str, str]) -> None:
    done = subprocess.run(["bash", str(SCRIPT)], env=allocation, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: sbatch ")


def test_it_is_clean() -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(SCRIPT)], check=True)
