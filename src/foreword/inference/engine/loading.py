"""From an artifact on disk to prompts and a head that rows of a batch can read."""

from __future__ import annotations

import torch

from foreword.artifacts.format import Artifact
from foreword.artifacts.tensors import served_names
from foreword.backbones import Backbone
from foreword.errors import ArtifactError, ForewordError
from foreword.inference.engine.handles import Member
from foreword.inference.engine.heads import make_of
from foreword.inference.engine.residents import Resident
from foreword.injection import Mixture, Prompt
from foreword.methods import single
from foreword.tasks import WritingTask


class Loader:
    """Reads artifacts, checks them, and brings their numbers to where and what the backbone computes with.

    Whether one fits the backbone is found out once, and its digest remembered: one that comes back is only read.

    Args:
        backbone: that all are for.
        bf16: whether it computes in bfloat16, so that keys and values are kept in it.
    """

    def __init__(self, backbone: Backbone, *, bf16: bool = False) -> None:
        self._backbone, self._bf16 = backbone, bf16
        self._fits: set[str] = set()

    def __call__(self, member: Member) -> Resident:
        """One artifact.

        Raises:
            ArtifactError: it is damaged, was made for another backbone, or changes the backbone itself.
            MethodError: it has a mixture of prompts, and answers that are written.
        """
        try:
            artifact = member.open()
            if member.digest not in self._fits:
                _check(self._backbone, member, artifact)
                self._fits.add(member.digest)
            return _ready(self._backbone, member, artifact, bf16=self._bf16)
        except ForewordError:
            raise
        except Exception as error:
            raise ArtifactError(f"{member.known_as}: cannot be loaded ({type(error).__name__})") from error


def _check(backbone: Backbone, member: Member, artifact: Artifact) -> None:
    artifact.check_backbone(backbone)
    if artifact.method.tunes_backbone or artifact.method.attaches:
        raise ArtifactError(
            f"{member.known_as}: '{artifact.method.name}' changes the backbone itself, which cannot share a batch with "
            "other tasks. Load it on its own (foreword.load)"
        )
    if isinstance(artifact.task, WritingTask) and artifact.prompt is not None:
        single(artifact.prompt)


def _ready(backbone: Backbone, member: Member, artifact: Artifact, *, bf16: bool) -> Resident:
    prompt = artifact.prompt or Prompt()
    device, dtype = backbone.device, backbone.model.dtype
    log_weights = prompt.log_weights.to(device) if isinstance(prompt, Mixture) else None
    several = prompt.prompts if isinstance(prompt, Mixture) else (prompt,)
    prompts = tuple(one.map(lambda tensor: tensor.to(device, dtype)) for one in several)
    if bf16:
        prompts = tuple(one.with_prefix(torch.bfloat16) for one in prompts)
    head = artifact.build_head(backbone).to(device).requires_grad_(False)
    names = [served_names(head.state_dict() if i == 0 else {}, one) for i, one in enumerate(prompts)]
    return Resident(
        member=member,
        task=artifact.task,
        prompts=prompts,
        log_weights=log_weights,
        head=head,
        make=make_of(head),
        reserved=artifact.method.positions_taken,
        bytes=sum(tensor.nbytes for named in names for tensor in named.values()),
    )
