"""The example of Ray Train on a cluster of several nodes, one of which is lost in the middle.

Prints what the example prints. Runs in a network namespace of its own, so that all of Ray is on
loopback.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ray.cluster_utils import Cluster

EXAMPLE = Path(__file__).parents[3] / "examples" / "train_ray.py"

if __name__ == "__main__":
    storage, *options = sys.argv[1:]
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=3, object_store_memory=80_000_000) for _ in range(2)]
    try:
        process = subprocess.Popen(
            [sys.executable, EXAMPLE, "--address", cluster.address, "--storage", storage, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        is_lost = False
        for line in process.stdout:
            print(line, end="", flush=True)
            if "step 12, loss" in line and not is_lost:
                is_lost = True
                cluster.remove_node(nodes[1], allow_graceful=False)
                print("a node is lost", flush=True)
        sys.exit(process.wait())
    finally:
        cluster.shutdown()
