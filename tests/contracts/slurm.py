"""An allocation of Slurm on this machine: its commands as small scripts, its three nodes as loopback addresses.

`srun` runs its command here, as a process of the "node" it was asked for; `hostname` gives that node's address.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.cluster.ray_nodes import node_environment
from tests.contracts.ports import free_port

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
    case "$*" in
        *--head*) set -- "$@" --dashboard-port="$DASHBOARD_PORT" --temp-dir="$FAKE_TEMP" ;;
        # Two nodes that start at once on one machine take the same names for their sockets, and one of them dies.
        *) until [ "$FAKE_NODE" = 2 ] || [ -S "$FAKE_TEMP/session_latest/sockets/raylet.1" ]; do sleep 0.5; done ;;
    esac
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


def allocation(folder: Path) -> dict[str, str]:
    """The environment of a batch job of three nodes with one CPU each; its commands are written to `folder`/bin."""
    commands = folder / "bin"
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
