"""Several server processes: each a whole server at a port of its own, for a proxy in front of them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from types import FrameType

_TICK = 0.1


def run_workers(count: int, port: int) -> int:
    """Start this command again ``count`` times at ``port``, ``port + 1``, ..., and end when they have ended.

    Signals are passed on. If one ends by itself, the others are told to stop as well, so that whoever supervises
    this process sees it and starts it again.

    Returns:
        The exit code: 0 if all were told to stop and did.
    """
    children = [subprocess.Popen(_command(port + number)) for number in range(count)]
    told: list[int] = []

    def pass_on(sig: int, _: FrameType | None) -> None:
        told.append(sig)
        for child in children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)

    for sig in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sig, pass_on)
    while any(child.poll() is None for child in children):
        if not told and any(child.poll() is not None for child in children):
            pass_on(signal.SIGTERM, None)
            told.clear()
            break
        time.sleep(_TICK)
    codes = [child.wait() for child in children]
    return 0 if told and all(code in (0, -signal.SIGTERM) for code in codes) else 1


def _command(port: int) -> list[str]:
    """This command for one process; of options that come twice the last counts."""
    return [sys.executable, "-m", "foreword", *sys.argv[1:], "--workers", "1", "--port", str(port)]
