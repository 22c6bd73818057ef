"""libCacheSim's policies on one trace, in the Python of a virtual environment that has it.

    python evict_peers.py TRACE POLICY,POLICY BYTES,BYTES

TRACE is oracleGeneral. Prints one JSON object a line: policy, bytes, object_hits and byte_hits as shares.
Imports nothing of this project: that is not installed where this runs.
"""

from __future__ import annotations

import json
import sys

import libcachesim  # type: ignore[import-not-found]


def main() -> None:
    """See above."""
    path, policies, sizes = sys.argv[1:]
    for policy in policies.split(","):
        for size in sizes.split(","):
            reader = libcachesim.TraceReader(path, libcachesim.TraceType.ORACLE_GENERAL_TRACE)
            cache = getattr(libcachesim, policy)(int(size))
            missed, bytes_missed = cache.process_trace(reader)
            found = {"policy": policy, "bytes": int(size)}
            print(json.dumps({**found, "object_hits": 1 - missed, "byte_hits": 1 - bytes_missed}), flush=True)


if __name__ == "__main__":
    main()
