"""Versions that travel: written as artifacts of their own into a folder, or a repository of the hub, and fetched."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from httpx import HTTPError
from huggingface_hub import HfApi, snapshot_download

from foreword.artifacts.files import MOST_BYTES, copy_file, side_by_side
from foreword.artifacts.folders import whole_folder
from foreword.artifacts.format import CARD, MANIFEST, write_words
from foreword.artifacts.manifest import MOST_MANIFEST_BYTES
from foreword.errors import OutputError, RegistryError
from foreword.registry.version import Version, files_of

HUB = "hf://"
_MOST = {**MOST_BYTES, MANIFEST: MOST_MANIFEST_BYTES}
"""File -> the largest that is fetched; nothing else is."""


def push(root: Path, version: Version, target: str) -> str:
    """Write a version to a folder or to the hub; see `Registry.push`."""
    if not target.startswith(HUB):
        write_artifact(root, version, Path(target))
        return target
    repository, revision = _repository(target)
    with tempfile.TemporaryDirectory(prefix="foreword-push-") as scratch, _hub_errors(target):
        folder = Path(scratch) / "artifact"
        write_artifact(root, version, folder)
        api = HfApi()
        api.create_repo(repository, private=True, exist_ok=True)
        said = f"{version.reference} ({version.digest[:12]})"
        done = api.upload_folder(repo_id=repository, folder_path=folder, revision=revision, commit_message=said)
    return str(done.commit_url)


def write_artifact(root: Path, version: Version, folder: Path) -> None:
    """Write a version as the folder of an artifact, whole or not at all.

    Raises:
        ArtifactError: it is damaged.
        OutputError: something is there already, or the place cannot be written.
    """
    if folder.exists():
        raise OutputError(f"{folder}: exists already. Choose another place for the artifact")
    with whole_folder(folder) as unfinished:
        for name in version.manifest.files:
            copy_file(files_of(root, version.manifest), side_by_side(unfinished, version.manifest), name)
        write_words(unfinished, version.manifest)


@contextmanager
def pulled(source: str) -> Iterator[Path]:
    """The folder of an artifact; one that lies on the hub is fetched, and deleted in the end.

    Raises:
        RegistryError: the hub cannot give it, or it is no artifact's size.
    """
    if not source.startswith(HUB):
        yield Path(source)
        return
    repository, revision = _repository(source)
    with tempfile.TemporaryDirectory(prefix="foreword-pull-") as scratch:
        with _hub_errors(source):
            found = HfApi().model_info(repository, revision=revision, files_metadata=True)
            for file in found.siblings or ():
                if (file.size or 0) > _MOST.get(file.rfilename, file.size or 0):
                    raise RegistryError(f"{source}: '{file.rfilename}' has {file.size} bytes, too many for an artifact")
            snapshot_download(repository, revision=found.sha, local_dir=scratch, allow_patterns=[*_MOST, CARD])
        yield Path(scratch)


def _repository(address: str) -> tuple[str, str | None]:
    name, _, revision = address.removeprefix(HUB).partition("@")
    return name, revision or None


@contextmanager
def _hub_errors(address: str) -> Iterator[None]:
    try:
        yield
    except (HTTPError, OSError, ValueError) as error:  # a refusal, no network, or no name of a repository
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RegistryError(f"{address}: the hub refused, or cannot be reached ({reason})") from error
