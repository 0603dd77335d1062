"""A Ray cluster of machines that are processes of this one, and storyboards that are made on it in a second."""

import signal
from contextlib import contextmanager

import pytest

STORE = 80 * 2**20
TINY = ("--height", "16", "--width", "16", "--steps", "5", "--cfg", "1", "--frames", "9")


@contextmanager
def cluster_of(*names):
    """Machines with one processor each; the first is the head."""
    from ray.cluster_utils import Cluster

    first, *others = ({"num_cpus": 1, "object_store_memory": STORE, "node_name": name} for name in names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        before = signal.getsignal(signal.SIGTERM)
        made = Cluster(initialize_head=True, head_node_args={**first, "include_dashboard": False})
        try:
            for machine in others:
                made.add_node(**machine)
            signal.signal(signal.SIGTERM, before)  # each machine has set one that ends its process
            yield made
        finally:
            made.shutdown()


def write_boards(folder, names="ab"):
    """A storyboard of each name, and one that is none."""
    folder.mkdir()
    for name in names:
        text = f"[global caption] A road {name}. [per shot caption] wide [shot cut] close"
        (folder / f"{name}.txt").write_text(text)
    (folder / "none.toml").write_text('global = "A road."')
    return folder
