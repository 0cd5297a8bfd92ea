"""Beginning with what another run has learned: its prompt, and its head where that is asked for.

Source: Lester et al. 2021, section 3.2; Vu et al. 2022 (SPoT); Liu et al. 2022, section 3.3 (several tasks
together first, then each one alone from there).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foreword.artifacts.format import Artifact, load_artifact, load_unfolded
from foreword.artifacts.tensors import check_fit
from foreword.backbones import Backbone
from foreword.errors import ArtifactError, MethodError
from foreword.heads import Head
from foreword.injection import Mixture, Prompt
from foreword.methods import Blueprint, Method, PromptEncoder
from foreword.model import PromptedModel
from foreword.tasks import Task
from foreword.training.settings import TrainingSettings


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    Attributes:
        artifact: of the other run, made for the same backbone.
        with_head: whether its head is taken over too.
    """

    artifact: Artifact
    with_head: bool = False

    def check_method(self, method: Method, backbone: Backbone, labels: Sequence[str] = ()) -> None:
        """See that a method can begin so, without making its numbers.

        Args:
            method: of the new run.
            backbone: of both.
            labels: of the new run.

        Raises:
            ArtifactError: what the artifact holds means nothing to another method.
            MethodError: the method has nothing that could begin so.
        """
        if not self._goes_on(method):
            self._transfer(method, method.build(Blueprint(backbone), labels))

    def check_head(self, task: Task[Any, Any], head: Head) -> None:
        """See that the artifact's head answers what a task asks, if it is to be taken over.

        Args:
            task: of the new run, with its labels.
            head: a fresh one of that task.

        Raises:
            ArtifactError: it is of another kind of task, of other labels, or of another shape.
        """
        if not self.with_head:
            return
        theirs, where = self.artifact.task, f"{self.artifact.path}: training.start_head:"
        if theirs.name != task.name:
            raise ArtifactError(f"{where} its head is one for '{theirs.name}', and the task is '{task.name}'")
        if theirs.labels != task.labels:
            raise ArtifactError(
                f"{where} its head answers with the labels {list(theirs.labels or ())}, the task has the labels "
                f"{list(task.labels or ())}. Set task.labels to the former if that is meant, or leave start_head out"
            )
        differing = _differing(theirs, task)
        check_fit(self.artifact.head, head.state_dict(), f"{where} its head is not the one this task has{differing}")

    def begin(self, model: PromptedModel) -> None:
        """Let a fresh model begin so.

        With the same method, settings and all, everything that is trained goes on as it was, modules that are folded
        away for use included. Another method starts from the folded prompt, as far as it fits.

        Raises:
            ArtifactError, MethodError: as the checks do.
        """
        artifact = self.artifact
        if self._goes_on(model.method):
            parts = (
                (model.prompt, load_unfolded(artifact) if artifact.trains_on else {}),
                (model.attachment, artifact.attachment),
            )
            for module, numbers in parts:
                if module is not None:
                    check_fit(numbers, module.state_dict(), f"{artifact.path}: does not fit the settings of its method")
                    module.load_state_dict(dict(numbers))
        else:
            self._transfer(model.method, model.prompt)
        if self.with_head:
            model.head.load_state_dict(dict(artifact.head))

    def _goes_on(self, method: Method) -> bool:
        """Whether everything trained can be taken over as it was."""
        artifact = self.artifact
        learned = artifact.trains_on if artifact.prompt is not None else artifact.attachment or self.with_head
        return artifact.method == method and not method.tunes_backbone and bool(learned)

    def _transfer(self, method: Method, encoder: PromptEncoder | None) -> None:
        """Start an encoder from the folded prompt."""
        prompt = self._plain_prompt()
        if encoder is None:
            raise MethodError(
                f"training.start_from: the method '{method.name}' has no prompt that could start from one"
            )
        try:
            encoder.start_from(prompt)
        except MethodError as error:
            raise MethodError(f"training.start_from: {error}") from error

    def _plain_prompt(self) -> Prompt:
        """The folded prompt, if it means something by itself."""
        artifact = self.artifact
        if artifact.prompt is None:
            raise ArtifactError(
                f"{artifact.path}: has no prompt to start from (its method is '{artifact.method.name}')"
            )
        if isinstance(artifact.prompt, Mixture):
            raise ArtifactError(f"{artifact.path}: has a mixture of prompts, which no single prompt can start from")
        if artifact.method.attaches or artifact.method.tunes_backbone:
            raise ArtifactError(
                f"{artifact.path}: its prompt was trained together with changes of the backbone, which a new run would "
                "not have"
            )
        return artifact.prompt


def _differing(theirs: Task[Any, Any], ours: Task[Any, Any]) -> str:
    """Plain settings in which two tasks of one kind differ, as words to add; not what was found in data."""
    pairs = ((name, getattr(theirs, name), getattr(ours, name)) for name in type(ours).model_fields)
    told = [
        f"task.{name} {there!r}, here {here!r}"
        for name, there, here in pairs
        if there != here and all(isinstance(value, bool | int | float | str) for value in (there, here))
    ]
    return f": it was trained with {', '.join(told)}" if told else ""


def read_start(settings: TrainingSettings, backbone: Backbone) -> Start | None:
    """The artifact that a run begins with; None if it begins afresh.

    Raises:
        ArtifactError: damaged, or made for another backbone.
    """
    if settings.start_from is None:
        return None
    artifact = load_artifact(settings.start_from)
    artifact.check_backbone(backbone)
    return Start(artifact, settings.start_head)
