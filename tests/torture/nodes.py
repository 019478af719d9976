"""A prediction on a Ray cluster of two local nodes, of which one is killed: `python -m tests.torture.nodes JOB`.

JOB is a JSON object: `run`, `source`, `output`, `piece_photos`, `kill` (`node`, `actor` or ``), `after` (finished
files before it is killed), and what else `fieldguide.predict` takes as `how`. What was killed goes to the file `told`.
"""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

ACTOR = b"ray::MapWorker"


def actors() -> list[tuple[int, int]]:
    """(process, parent) of each actor of Ray Data that this process's cluster has; the parent is its node's raylet."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if (entry / "cmdline").read_bytes().startswith(ACTOR):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                found.append((int(entry.name), parent))
    return found


def main(job: dict) -> None:
    """Predicts, and kills once it is under way."""
    import ray
    from ray.cluster_utils import Cluster

    import fieldguide
    from fieldguide.commands import predict_elsewhere
    from fieldguide.deploy.shards import Manifest

    predict_elsewhere.PIECE_PHOTOS = job["piece_photos"]
    own = {"object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **own})
    nodes = [cluster.add_node(num_cpus=1, **own) for _ in range(2)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    killed, real = {}, Manifest.add

    def add(self: Manifest, written) -> None:
        real(self, written)
        if job["kill"] and not killed and len(self.done) >= job["after"]:
            of_node = {node.all_processes["raylet"][0].process.pid: node for node in nodes}
            process, raylet = next(pair for pair in actors() if pair[1] in of_node)
            killed.update(kill=job["kill"], files=len(list(Path(job["output"]).glob("*.parquet"))))
            if job["kill"] == "node":
                cluster.remove_node(of_node[raylet], allow_graceful=False)
            else:
                os.kill(process, signal.SIGKILL)

    Manifest.add = add
    try:
        done = fieldguide.predict(job["run"], job["source"], job["output"], on="ray", quiet=True, **job["how"])
        told = killed | {"rows": done.images, "failed": len(done.failed), "speed": done.images_per_second}
        Path(job["told"]).write_text(json.dumps(told))  # Ray prints as well
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
