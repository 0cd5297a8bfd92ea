"""Small files of a registry that carry their own hash, so that no change of a single bit goes unseen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from foreword.artifacts.opening import open_plain
from foreword.data.readers.base import parse_json
from foreword.errors import ArtifactError, RegistryError

_SEAL = "sha256"
_MOST_BYTES = 1 << 20


def seal(content: Mapping[str, Any]) -> bytes:
    """JSON with one more key: the hash of the others as JSON."""
    return _text({**content, _SEAL: sha256(_text(content)).hexdigest()})


def read_sealed(root: Path, *parts: str) -> dict[str, Any]:
    """The way back from `seal`, for a file below ``root``.

    Raises:
        RegistryError: the file is missing, or is not, to the byte, what `seal` writes.
    """
    where = root.joinpath(*parts)
    try:
        with open_plain(root, *parts) as file:
            raw = file.read(_MOST_BYTES + 1)
        found = parse_json(raw.decode("utf-8"))
        content = {name: value for name, value in found.items() if name != _SEAL}
        if len(raw) > _MOST_BYTES or raw != seal(content):
            raise RegistryError(f"{where}: its sha256 is not the one it says: it was altered")
    except ArtifactError as error:
        raise RegistryError(str(error)) from error
    except (OSError, ValueError, AttributeError) as error:  # of no JSON, or none that is a table
        raise RegistryError(f"{where}: is damaged ({error})") from error
    return content


def _text(content: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(content, indent=1, sort_keys=True)}\n".encode()
