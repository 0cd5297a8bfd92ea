"""The Ray cluster to work on: one that runs already, or one of this machine alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

_ADDRESS = "RAY_ADDRESS"
_STORE = 100 * 2**20
"""Bytes of the shared store of a cluster of our own: texts and answers are small, and nothing else goes through it."""
_SETTINGS = {
    "RAY_AUTH_MODE": "token",  # else whoever reaches a port of Ray runs code here
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_SERVE_LOG_TO_STDERR": "0",  # Serve's own log is in Ray's folder; ours goes to standard error
    "RAY_IGNORE_UNHANDLED_ERRORS": "1",  # they are told by whoever waits
    "RAY_DEDUP_LOGS": "0",  # two requests that look alike are two lines
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # as Ray will have it; it warns of it otherwise
}
"""Of Ray's environment, unless they are set. Ray reads them when it is imported, so nothing imports it earlier."""


@contextmanager
def cluster(cpus: float) -> Iterator[bool]:
    """Be connected to a cluster, and to none after the block.

    With ``RAY_ADDRESS`` that is the one it names. Otherwise one is started for the block, without a dashboard, with a
    token that others need to talk to it; its processes end with the block.

    Args:
        cpus: that will be asked of it. A cluster of our own has at least as many, whatever the machine has.

    Yields:
        Whether it is our own.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray  # noqa: PLC0415

    own = _ADDRESS not in os.environ
    if own:
        ray.init(
            address="local",
            num_cpus=max(os.cpu_count() or 1, int(-(-cpus // 1))),
            object_store_memory=_STORE,
            include_dashboard=False,
            logging_level=logging.ERROR,
        )
    else:
        ray.init(logging_level=logging.WARNING)
    try:
        yield own
    finally:
        ray.shutdown()
