"""Artifacts on disk: write one, read one, refuse one that is not what it says.

    ARTIFACT/
      prompt.safetensors     what is served: folded prompt, what is attached to the layers, and head
      unfolded.safetensors   the prompt's parameters as trained, to go on training from
      backbone.safetensors   only where weights of the backbone itself were tuned: those
      artifact.json          what it is, what it fits, how it was made; sha256 of the files above
      README.md              a model card

No pickle anywhere. Served numbers and training-only numbers are separate files, so that serving
never reads an MLP that was already folded away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from foreword.artifacts.card import model_card
from foreword.artifacts.files import BACKBONE, SERVED, UNFOLDED, Files, file_entry, side_by_side
from foreword.artifacts.folders import whole_folder
from foreword.artifacts.manifest import MOST_MANIFEST_BYTES, Manifest, manifest_bytes, parse_manifest
from foreword.artifacts.opening import open_plain
from foreword.artifacts.tensors import check_fit, prompt_names, read_served, read_tensors, served_names, write_tensors
from foreword.attachment import Attachment
from foreword.backbones import Backbone
from foreword.errors import ArtifactError, MethodError, OutputError, TaskError
from foreword.heads import Head
from foreword.injection import Mixture, Prompt
from foreword.methods import METHODS, Blueprint, FoldedPrompt, Method, attach, fold
from foreword.model import PromptedModel
from foreword.tasks import TASKS, Task

MANIFEST, CARD = "artifact.json", "README.md"


@dataclass(frozen=True)
class Artifact:
    """An artifact read back and checked.

    Attributes:
        path: its folder, or the file of a registry that publishes it.
        files: where its files are.
        manifest: what it says of itself.
        task: with its labels.
        method: with its settings.
        prompt: the folded prompt, or mixture of prompts; None where the method has none.
        attachment: trained tensors of the modules put into the backbone; empty where the method has none.
        head: trained weights per name.
    """

    path: Path
    files: Files
    manifest: Manifest
    task: Task[Any, Any]
    method: Method
    prompt: Prompt | Mixture | None
    attachment: Mapping[str, Tensor]
    head: Mapping[str, Tensor]

    @property
    def trains_on(self) -> bool:
        """Whether it holds the prompt's parameters as trained (`load_unfolded`)."""
        return UNFOLDED in self.manifest.files

    def build_head(self, backbone: Backbone) -> Head:
        """The task's head with its trained weights, for a backbone that was checked.

        Raises:
            ArtifactError: the weights do not fit the task or the backbone's width.
        """
        try:
            head = self.task.build_head(backbone.hidden_size, backbone)
        except TaskError as error:
            raise ArtifactError(f"{self.path}: {error}") from error
        if not self.head and head.state_dict():
            raise ArtifactError(
                f"{self.path}: holds a prompt without a head, so it answers nothing. Train one from it "
                "(training.start_from), or import it with its head"
            )
        check_fit(self.head, head.state_dict(), f"{self.path}: its head does not fit this task and backbone")
        head.load_state_dict(dict(self.head))
        return head.eval()

    def build_model(self, backbone: Backbone) -> PromptedModel:
        """Backbone, folded prompt and head, ready to predict.

        Tuned weights replace those of ``backbone``, and models made on it before refuse to go on. Attached
        modules leave it as it is for all others.

        Raises:
            ArtifactError: it was made for another backbone; the message names the field.
        """
        self.check_backbone(backbone)
        head = self.build_head(backbone)
        weights = self._tuned_weights(backbone)
        prompt = None if self.prompt is None else FoldedPrompt(self.prompt)
        model = PromptedModel(backbone, self.method, head, prompt, attachment=self._attach(backbone))
        model.load_tuned(weights)
        backbone.freeze()
        return model.eval().to(backbone.device)

    def check_backbone(self, backbone: Backbone) -> None:
        """Refuse a backbone this artifact was not made for.

        Raises:
            ArtifactError: naming the field, or the part of the prompt, that differs.
        """
        ours, theirs = self.manifest.backbone, backbone.identity
        if self.task.needs_language_model and theirs.language_model is None:
            raise ArtifactError(
                f"{self.path}: its head reads a vocabulary, and '{theirs.name}' was loaded without its language model. "
                "Use load_backbone(..., language_model=True)"
            )
        whole = self.task.needs_language_model or self.method.tunes_backbone  # else the trunk alone counts
        for field in ("family", "dtype", "weights", "tokenizer", *["language_model"] * whole):
            wanted, found = getattr(ours, field) or "none", getattr(theirs, field) or "none"
            if wanted != found:
                raise ArtifactError(
                    f"{self.path}: made for backbone '{ours.name}'; '{theirs.name}' differs in {field} "
                    f"({found[:12]} instead of {wanted[:12]})"
                )
        if backbone.tuned - self._tuned(backbone).keys():
            raise ArtifactError(
                f"{self.path}: made for the weights that '{theirs.name}' is published with, but fine-tuning has "
                "changed those of the backbone given. Load it anew"
            )
        shapes = {name: tuple(tensor.shape) for name, tensor in prompt_names(self.prompt).items()}
        wanted_shapes = self._wanted_prompt(backbone)
        for name in (*shapes, *wanted_shapes):
            if shapes.get(name) != wanted_shapes.get(name):
                raise ArtifactError(
                    f"{self.path}: its prompt: '{name}' is {shapes.get(name, 'missing')}, "
                    f"the backbone wants {wanted_shapes.get(name, 'none')} for its method.settings"
                )

    def _wanted_prompt(self, backbone: Backbone) -> dict[str, tuple[int, ...]]:
        """Shapes of the prompt that the method would make, found without making its numbers."""
        try:
            with torch.device("meta"):
                encoder = self.method.build(Blueprint(backbone), self.task.labels or ())
                prompt = None if encoder is None else fold(encoder)
        except (MethodError, RuntimeError, OverflowError, TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0]  # torch's own go on for a page
            raise ArtifactError(f"{self.path}: its method.settings do not fit the backbone ({reason})") from error
        return {name: tuple(tensor.shape) for name, tensor in prompt_names(prompt).items()}

    def _tuned(self, backbone: Backbone) -> dict[str, Tensor]:
        """The weights of a backbone that the method tunes."""
        weights = dict(backbone.model.named_parameters())
        try:
            chosen = self.method.tuned(tuple(weights))
        except MethodError as error:
            raise ArtifactError(f"{self.path}: its method.settings do not fit the backbone ({error})") from error
        return {name: weight for name, weight in weights.items() if name in chosen}

    def _tuned_weights(self, backbone: Backbone) -> dict[str, Tensor]:
        """Their numbers in this artifact."""
        if not self.method.tunes_backbone:
            return {}
        where = self.files.where(BACKBONE)
        weights = read_tensors(self.files.read(BACKBONE), where)
        check_fit(weights, self._tuned(backbone), f"{where}: does not fit the backbone")
        return weights

    def _attach(self, backbone: Backbone) -> Attachment | None:
        """Put the trained modules into the backbone; no numbers are made for them first."""
        try:
            with torch.device("meta"):
                attachment = attach(self.method, backbone)
        except (MethodError, RuntimeError, OverflowError, TypeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise ArtifactError(f"{self.path}: its method cannot be put into the backbone ({reason})") from error
        wanted = {} if attachment is None else attachment.state_dict()
        try:
            check_fit(self.attachment, wanted, f"{self.path}: what it attaches does not fit the backbone")
        except ArtifactError:
            if attachment is not None:
                attachment.detach()
            raise
        if attachment is not None:
            attachment.load_state_dict(dict(self.attachment), assign=True)
        return attachment


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
    prompt = None if model.prompt is None else fold(model.prompt)
    unfolded = {} if model.prompt is None else model.prompt.state_dict()
    with whole_folder(path) as folder:
        attached = {} if model.attachment is None else model.attachment.state_dict()
        write_tensors(served_names(model.head.state_dict(), prompt, attached), folder / SERVED)
        if unfolded:
            write_tensors(unfolded, folder / UNFOLDED)
        if model.method.tunes_backbone:
            write_tensors(model.tuned_weights(), folder / BACKBONE)
        files = {file.name: file_entry(file) for file in sorted(folder.iterdir())}
        manifest = manifest.model_copy(update={"files": files})
        write_words(folder, manifest)


def write_words(folder: Path, manifest: Manifest) -> None:
    """Write what an artifact has beside its numbers: manifest and model card."""
    (folder / CARD).write_text(model_card(manifest), "utf-8")
    (folder / MANIFEST).write_bytes(manifest_bytes(manifest))


def load_artifact(path: str | Path) -> Artifact:
    """Read an artifact and check it: hashes, sizes, shapes, finite numbers.

    Args:
        path: an artifact's folder, or the folder of the run that made it.

    Raises:
        ArtifactError: naming the file or field that is wrong.
    """
    folder = _folder_of(Path(path))
    with open_plain(folder, MANIFEST) as file:
        manifest = parse_manifest(file.read(MOST_MANIFEST_BYTES + 1), folder / MANIFEST)
    return read_artifact(folder, manifest, folder / MANIFEST, side_by_side(folder, manifest))


def read_artifact(path: Path, manifest: Manifest, where: Path, files: Files) -> Artifact:
    """What a manifest describes, checked: the one way in, from a folder and from a registry.

    Args:
        path: what stands for the artifact in messages.
        manifest: what it says of itself.
        where: the file it says that in.
        files: where the files it lists are.

    Raises:
        ArtifactError: naming the file or field that is wrong.
    """
    task: Task[Any, Any] = _component(TASKS, "task", manifest, where)
    method: Method = _component(METHODS, "method", manifest, where)
    _check_names(manifest, method, where)
    for name in manifest.files.keys() - {SERVED}:
        files.check(name)
    served = read_served(files.read(SERVED), files.where(SERVED))
    return Artifact(path, files, manifest, task, method, served.prompt, served.attachment, served.head)


def load_unfolded(artifact: Artifact) -> dict[str, Tensor]:
    """The prompt's parameters as trained, to go on training from.

    Raises:
        ArtifactError: the artifact has none.
    """
    if not artifact.trains_on:
        raise ArtifactError(f"{artifact.path}: holds no unfolded parameters to train on from")
    return read_tensors(artifact.files.read(UNFOLDED), artifact.files.where(UNFOLDED))


def _folder_of(path: Path) -> Path:
    try:
        for folder in (path, path / "artifact"):
            if (folder / MANIFEST).is_file():
                return folder
        exists, begun = path.exists(), (path / "run.json").is_file()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from error
    if not exists:
        raise ArtifactError(f"{path}: no such folder")
    if several := sorted(str(found.parent) for found in (path / "artifacts").glob(f"*/{MANIFEST}")):
        raise ArtifactError(f"{path}: a run of several tasks. Name one of its artifacts: {', '.join(several)}")
    if begun:
        raise ArtifactError(f"{path}: this run is not finished, so it has no artifact yet. Go on with --resume")
    raise ArtifactError(f"{path}: not an artifact (no {MANIFEST} in it)")


def _check_names(manifest: Manifest, method: Method, where: Path) -> None:
    """Refuse a list of files that is not one of ours, before any of them is looked at."""
    needed = {SERVED, BACKBONE} if method.tunes_backbone else {SERVED}
    for name in manifest.files.keys() - needed - {UNFOLDED}:
        raise ArtifactError(f"{where}: files: {name!r:.60} is no file of such an artifact")
    for name in needed - manifest.files.keys():
        raise ArtifactError(f"{where}: files: '{name}' is missing")


def _component(table: Mapping[str, type[Any]], part: str, manifest: Manifest, where: Path) -> Any:
    entry = getattr(manifest, part)
    if entry.type not in table:
        raise ArtifactError(f"{where}: {part}.type '{entry.type}' is not one of {', '.join(table)}")
    kind = table[entry.type]
    before = {name: value for name, value in kind.first_defaults.items() if name not in entry.settings}
    try:
        return kind.model_validate(entry.settings).model_copy(update=before)  # it may be older than a setting
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ArtifactError(f"{where}: {part}.settings.{field}: {first['msg']}") from error


def backbone_entry(backbone: Backbone) -> dict[str, Any]:
    """A backbone's identity as the manifest writes it."""
    return asdict(backbone.identity)
