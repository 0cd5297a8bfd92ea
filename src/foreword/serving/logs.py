"""The log: a JSON object a line, with numbers and names of ours in it, never a text, a path or a message of others."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from pathlib import PurePath

SERVING = "foreword.serving"
_OURS = {"foreword", "uvicorn"}


class Lines(logging.Formatter):
    """A record as one line of JSON.

    Of an exception there are its kind and where it was raised: its message may quote what somebody sent.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            told["error"] = type(record.exc_info[1]).__name__
            told["at"] = _places(record.exc_info[1])
        return json.dumps(told)


def _places(error: BaseException) -> list[str]:
    """The innermost calls, as file name and line."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    return [f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in frames]


def to_stderr() -> None:
    """Send what this server and uvicorn have to say to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Lines())
    for name in _OURS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
    logging.getLogger("uvicorn.access").disabled = True  # it writes paths as they were sent
