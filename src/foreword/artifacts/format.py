"""Artifacts on disk: write one, read one, refuse one that is not what it says.

    ARTIFACT/
      prompt.safetensors     what is served: folded prompt and head
      unfolded.safetensors   the prompt's parameters as trained, to go on training from
      backbone.safetensors   only where the backbone itself was tuned
      artifact.json          what it is, what it fits, how it was made; sha256 of the files above
      README.md              a model card

No pickle anywhere. Served numbers and training-only numbers are separate files, so that serving
never reads an MLP that was already folded away.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from foreword.artifacts.card import model_card
from foreword.artifacts.folders import whole_folder
from foreword.artifacts.manifest import FORMAT_VERSION, FileEntry, Manifest
from foreword.backbones import Backbone
from foreword.errors import ArtifactError, OutputError
from foreword.heads import Head
from foreword.injection import KeyValue, Prefix, Site
from foreword.methods import METHODS, FoldedPrompt, Method, fold
from foreword.model import PromptedModel
from foreword.tasks import TASKS, Task

MANIFEST, CARD = "artifact.json", "README.md"
SERVED, UNFOLDED, BACKBONE = "prompt.safetensors", "unfolded.safetensors", "backbone.safetensors"


@dataclass(frozen=True)
class Artifact:
    """An artifact read back and checked.

    Attributes:
        path: its folder.
        manifest: what it says of itself.
        task: with its labels.
        method: with its settings.
        prefix: the folded prompt, or None where the method has none.
        head: trained weights per name.
    """

    path: Path
    manifest: Manifest
    task: Task[Any, Any]
    method: Method
    prefix: Prefix | None
    head: Mapping[str, Tensor]

    def build_head(self, hidden_size: int) -> Head:
        """The task's head with its trained weights.

        Raises:
            ArtifactError: the weights do not fit the task or the backbone's width.
        """
        head = self.task.head(hidden_size)
        try:
            head.load_state_dict(dict(self.head))
        except RuntimeError as error:
            raise ArtifactError(f"{self.path}: its head does not fit this task and backbone ({error})") from error
        return head.eval()

    def build_model(self, backbone: Backbone) -> PromptedModel:
        """Backbone, folded prompt and head, ready to predict.

        A tuned backbone's weights replace those of ``backbone``.

        Raises:
            ArtifactError: it was made for another backbone; the message names the field.
        """
        self.check_backbone(backbone)
        prompt = None if self.prefix is None else FoldedPrompt(self.prefix)
        model = PromptedModel(backbone, self.method, self.build_head(backbone.hidden_size), prompt)
        if self.method.tunes_backbone:
            backbone.model.load_state_dict(_read_tensors(self.path / BACKBONE))
        backbone.freeze()
        return model.eval().to(backbone.device)

    def check_backbone(self, backbone: Backbone) -> None:
        """Refuse a backbone this artifact was not made for."""
        ours, theirs = self.manifest.backbone, backbone.identity
        for field in ("family", "weights", "tokenizer"):
            wanted, found = getattr(ours, field), getattr(theirs, field)
            if wanted != found:
                raise ArtifactError(
                    f"{self.path}: made for backbone '{ours.name}'; '{theirs.name}' differs in {field} "
                    f"({found[:12]} instead of {wanted[:12]})"
                )
        for site, pair in (self.prefix or {}).items():
            shape = backbone.sites.get(site)
            if shape is None or (pair.key.shape[0], pair.key.shape[2]) != tuple(shape):
                raise ArtifactError(
                    f"{self.path}: its prompt at {site} is {tuple(pair.key.shape)}, the backbone wants {shape}"
                )


def save_artifact(path: Path, model: PromptedModel, manifest: Manifest, *, replace: bool = False) -> None:
    """Write an artifact, whole or not at all.

    Args:
        path: its folder.
        model: prompt, head and, where tuned, backbone.
        manifest: all but its ``files``, which are filled in here.
        replace: whether an artifact already there may be replaced.

    Raises:
        OutputError: something is there that may not be replaced, or the place cannot be written.
    """
    if path.exists() and not (replace and (path / MANIFEST).is_file()):
        raise OutputError(f"{path}: exists already. Choose another place for the artifact")
    served = {f"head/{name}": t for name, t in model.head.state_dict().items()}
    with whole_folder(path) as folder:
        if model.prompt is not None:
            for site, pair in fold(model.prompt).items():
                served[f"prefix/{site}/key"], served[f"prefix/{site}/value"] = pair
            if state := model.prompt.state_dict():
                save_file(_plain(state), folder / UNFOLDED)
        save_file(_plain(served), folder / SERVED)
        if model.method.tunes_backbone:
            save_file(_plain(model.backbone.model.state_dict()), folder / BACKBONE)
        files = {file.name: _file_entry(file) for file in sorted(folder.iterdir())}
        manifest = manifest.model_copy(update={"files": files})
        (folder / CARD).write_text(model_card(manifest), "utf-8")
        text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False)
        (folder / MANIFEST).write_text(text + "\n", "utf-8")


def load_artifact(path: str | Path) -> Artifact:
    """Read an artifact and check it: hashes, sizes, shapes, finite numbers.

    Args:
        path: an artifact's folder, or the folder of the run that made it.

    Raises:
        ArtifactError: naming the file or field that is wrong.
    """
    folder = _folder_of(Path(path))
    manifest = _read_manifest(folder / MANIFEST)
    for name, entry in manifest.files.items():
        _check_file(folder / name, entry)
    tensors = _read_tensors(folder / SERVED)
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ArtifactError(f"{folder / SERVED}: '{name}' holds values that are not finite")
    task, method = (
        _component(TASKS, "task", manifest, folder),
        _component(METHODS, "method", manifest, folder),
    )
    prefix = _prefix({n: t for n, t in tensors.items() if n.startswith("prefix/")}, folder)
    head = {name.removeprefix("head/"): t for name, t in tensors.items() if name.startswith("head/")}
    return Artifact(folder, manifest, task, method, prefix or None, head)


def load_unfolded(artifact: Artifact) -> dict[str, Tensor]:
    """The prompt's parameters as trained, to go on training from.

    Raises:
        ArtifactError: the artifact has none.
    """
    if UNFOLDED not in artifact.manifest.files:
        raise ArtifactError(f"{artifact.path}: holds no unfolded parameters to train on from")
    return _read_tensors(artifact.path / UNFOLDED)


def _folder_of(path: Path) -> Path:
    for folder in (path, path / "artifact"):
        if (folder / MANIFEST).is_file():
            return folder
    if not path.exists():
        raise ArtifactError(f"{path}: no such folder")
    if (path / "run.json").is_file():
        raise ArtifactError(f"{path}: this run is not finished, so it has no artifact yet. Go on with --resume")
    raise ArtifactError(f"{path}: not an artifact (no {MANIFEST} in it)")


def _read_manifest(path: Path) -> Manifest:
    try:
        raw = json.loads(path.read_text("utf-8"))
        version = raw.get("format_version") if isinstance(raw, dict) else None
        if version != FORMAT_VERSION:
            raise ArtifactError(f"{path}: format version {version!r}; this Foreword reads version {FORMAT_VERSION}")
        return Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        raise ArtifactError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from error


def _check_file(path: Path, entry: FileEntry) -> None:
    if not path.is_file():
        raise ArtifactError(f"{path}: is missing")
    size = path.stat().st_size
    if size != entry.bytes:
        raise ArtifactError(f"{path}: has {size} bytes, its manifest says {entry.bytes}: truncated or replaced")
    if _file_entry(path).sha256 != entry.sha256:
        raise ArtifactError(f"{path}: its sha256 is not the one in its manifest: it was altered")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error})") from error


def _component(table: Mapping[str, type[Any]], part: str, manifest: Manifest, folder: Path) -> Any:
    entry = getattr(manifest, part)
    if entry.type not in table:
        raise ArtifactError(f"{folder / MANIFEST}: {part}.type '{entry.type}' is not one of {', '.join(table)}")
    try:
        return table[entry.type].model_validate(entry.settings)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ArtifactError(f"{folder / MANIFEST}: {part}.settings.{where}: {first['msg']}") from error


def _prefix(tensors: Mapping[str, Tensor], folder: Path) -> Prefix:
    prefix: dict[Site, KeyValue] = {}
    for name in sorted(tensors):
        _, site, kind = name.split("/")
        if kind == "key":
            key, value = tensors[name], tensors.get(f"prefix/{site}/value")
            if value is None or key.dim() != 3 or key.shape != value.shape:
                raise ArtifactError(f"{folder / SERVED}: keys and values at {site} do not match")
            prefix[Site.parse(site)] = KeyValue(key, value)
    return prefix


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}


def _file_entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        return FileEntry(sha256=file_digest(file, "sha256").hexdigest(), bytes=path.stat().st_size)


def backbone_entry(backbone: Backbone) -> dict[str, Any]:
    """A backbone's identity as the manifest writes it."""
    return asdict(backbone.identity)
