"""From an artifact on disk to prompts and a head that rows of a batch can read."""

from __future__ import annotations

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


def make_ready(backbone: Backbone, member: Member) -> Resident:
    """Read an artifact, check it, and bring its numbers to where and what the backbone computes with.

    Raises:
        ArtifactError: it is damaged, was made for another backbone, or changes the backbone itself.
        MethodError: it has a mixture of prompts, and answers that are written.
    """
    try:
        return _ready(backbone, member, member.open())
    except ForewordError:
        raise
    except Exception as error:
        raise ArtifactError(f"{member.known_as}: cannot be loaded ({type(error).__name__})") from error


def _ready(backbone: Backbone, member: Member, artifact: Artifact) -> Resident:
    artifact.check_backbone(backbone)
    if artifact.method.tunes_backbone or artifact.method.attaches:
        raise ArtifactError(
            f"{member.known_as}: '{artifact.method.name}' changes the backbone itself, which cannot share a batch with "
            "other tasks. Load it on its own (foreword.load)"
        )
    prompt = artifact.prompt or Prompt()
    if isinstance(artifact.task, WritingTask):
        single(prompt)
    device, dtype = backbone.device, backbone.model.dtype
    log_weights = prompt.log_weights.to(device) if isinstance(prompt, Mixture) else None
    several = prompt.prompts if isinstance(prompt, Mixture) else (prompt,)
    prompts = tuple(one.map(lambda tensor: tensor.to(device, dtype)) for one in several)
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
