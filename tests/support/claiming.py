"""A driver that claims a clip on a cluster, says so, and then does nothing any more: `claiming.py ADDRESS CLIP`."""

import sys
import time

from holo_lite.farm.ray_cluster import connected

if __name__ == "__main__":
    address, clip = sys.argv[1:]
    told = sys.stdout
    with connected(address) as cluster:
        card = cluster.start(cluster.places()[0])
        told.write(f"{cluster.claim(clip, card)}\n")
        told.flush()
        time.sleep(3600)
