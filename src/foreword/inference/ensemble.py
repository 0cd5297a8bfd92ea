"""Text in, answers out: several artifacts, one task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from foreword.artifacts.format import Artifact, load_artifact
from foreword.backbones import Backbone
from foreword.data.records import Record
from foreword.data.sources import Source
from foreword.errors import TaskError
from foreword.inference.engine import Engine, Evaluated, Vote
from foreword.inference.predictor import backbone_of, rounded_otherwise


class Ensemble:
    """Several trained prompts that answer together, in one pass; the verbs are those of `Predictor`.

    Source: Lester et al. 2021, section 6.

    Args:
        artifacts: name -> artifact, of one kind of task with the same labels.
        backbone: to use; loaded by the name in the first artifact if None.
        vote: whether the 'mean' of their probabilities decides, or the 'majority' of their answers.
        batch_size: most rows per forward pass; a text takes one for each artifact.
        device: where to load the backbone, if none is given; the GPU of this machine, if it has one, when left out.

    Attributes:
        artifact: the first of them.
        notes: what had to be done so far to make inputs fit -> how many inputs.

    Raises:
        TaskError: there are none, or they cannot answer together.
        BackboneError: the backbone cannot be loaded, or there is no such device.
    """

    def __init__(
        self,
        artifacts: Mapping[str, Artifact],
        backbone: Backbone | None = None,
        *,
        vote: Vote = "mean",
        batch_size: int = 64,
        device: str | None = None,
    ) -> None:
        if not artifacts:
            raise TaskError("an ensemble has at least one member")
        self._artifacts = tuple(artifacts.values())
        self.artifact = self._artifacts[0]
        self._engine = Engine(backbone or backbone_of(self.artifact, device=device), artifacts, batch_size=batch_size)
        self.notes = self._engine.notes
        self._handle = self._engine.ensemble(list(artifacts), vote)

    @property
    def warnings(self) -> list[str]:
        """What had to be done so far to make inputs fit, and where the backbone is rounded otherwise, in words."""
        rounded = [told for one in self._artifacts for told in rounded_otherwise(one, self._engine.backbone)]
        return [*dict.fromkeys(rounded), *self._engine.warnings]

    def predict(self, inputs: Iterable[Mapping[str, Any]], *, candidates: int = 0) -> list[dict[str, Any]]:
        """Answer every input, in order, with the share of members that agree and what each of them says.

        Args:
            inputs: dictionaries with the fields the task reads, such as ``{"text": ...}``.
            candidates: list so many of the best answers as well, under "candidates".
        """
        return list(self.stream(Source(items=tuple(inputs)).records(), candidates=candidates))

    def stream(self, records: Iterable[Record], *, candidates: int = 0, first: int = 0) -> Iterator[dict[str, Any]]:
        """Answer records as they come, order kept; ``first`` is the number of the first one.

        Raises:
            DataError: a record lacks what the task reads.
            TaskError: candidates are wanted of a task that has none, or a text is framed differently by the members.
        """
        return self._engine.answer(self._handle, records, candidates=candidates, first=first)

    def evaluate(self, data: Source) -> Evaluated:
        """The task's metric on labelled data, of the ensemble and of each member.

        Raises:
            DataError: naming file, line and field.
        """
        return self._engine.evaluate(self._handle, data)


def load_ensemble(
    paths: Sequence[str | Path], backbone: Backbone | None = None, *, vote: Vote = "mean", device: str | None = None
) -> Ensemble:
    """An ensemble from the folders of artifacts, or those of the runs that made them; each member is called by its own.

    Args:
        paths: of the artifacts.
        backbone: shared with others; loaded by name if None.
        vote: as of `Ensemble`.
        device: where to load it then, such as 'cpu'; the GPU of this machine, if it has one, when left out.

    Raises:
        ArtifactError: damaged, altered, or made for another backbone.
        TaskError: there are none, one comes twice, or they cannot answer together.
        BackboneError: the backbone cannot be loaded, or not there.
    """
    return Ensemble(load_members(paths), backbone, vote=vote, device=device)


def load_members(paths: Sequence[str | Path]) -> dict[str, Artifact]:
    """The artifacts of an ensemble, by their paths.

    Raises:
        ArtifactError: damaged, or altered.
        TaskError: one comes twice.
    """
    names = [str(path) for path in paths]
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise TaskError(f"{twice[0]}: comes twice among the members of an ensemble")
    return {name: load_artifact(name) for name in names}
