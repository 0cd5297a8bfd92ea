"""Where the three meet: a backbone, a method's prompt, and a task's head."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from foreword.attachment import Attachment, active
from foreword.backbones import Backbone, TrunkCache, continuation_logits, generate
from foreword.data.batching import WRITTEN, Batch
from foreword.heads import Head
from foreword.injection import Injection, Mixture, Prompt
from foreword.methods import Method, PromptEncoder, attach, fold, single


class Reading(NamedTuple):
    """What a model has its backbone read for a batch.

    Attributes:
        batch: in which every row of the one that was given stands once per prompt, one behind the other.
        prompts: those that the rows read in turn; none where nothing stands before the tokens.
        log_weights: ``(K,)`` of the prompts of a mixture, else None.
    """

    batch: Batch
    prompts: tuple[Prompt, ...]
    log_weights: Tensor | None = None

    @property
    def rows(self) -> Tensor:
        """Which of the prompts each row reads, ``(B K,)``."""
        count = max(len(self.prompts), 1)
        return torch.arange(count).repeat(len(self.batch.input_ids) // count)

    @property
    def injection(self) -> Injection | None:
        """The prompts and who reads them; None where there are none."""
        if not self.prompts:
            return None
        return Injection(self.prompts, None if self.log_weights is None else self.rows)


class PromptedModel(nn.Module):
    """Prompt in, logits out. The trainable parameters are listed here and nowhere else.

    Args:
        backbone: the pretrained model; unfrozen here as far as the method tunes it.
        method: how it is adapted; a fresh prompt encoder is built from it.
        head: the task's head.
        prompt: a prompt encoder to use instead of a fresh one, such as a folded prompt.
        attachment: what the method put into the backbone already; put there afresh if None.
        labels: of the task, for methods that start from their names.

    Attributes:
        trunk: what is known of the layers below all that is trained, if somebody put it there.

    Raises:
        MethodError: the task's answers are written, and the prompt is a mixture.
    """

    def __init__(
        self,
        backbone: Backbone,
        method: Method,
        head: Head,
        prompt: PromptEncoder | None = None,
        *,
        attachment: Attachment | None = None,
        labels: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.method = method
        self.prompt = prompt or method.build(backbone, labels)
        self.head = head
        if head.reads == "continuation" and self.prompt is not None:
            single(fold(self.prompt))  # a prompt that cannot write is told of before it is trained
        backbone.freeze()
        self.attachment = attachment or attach(method, backbone)
        self.tuned = method.tuned([name for name, _ in backbone.model.named_parameters()])
        if self.tuned:
            backbone.unfreeze(self.tuned)
        self._generation = backbone.generation
        self.trunk: TrunkCache | None = None

    def forward(self, batch: Batch) -> Tensor:
        """Logits of the task's head for one batch, every row reading this model's prompt."""
        return self.logits(self.reading(batch))

    def reading(self, batch: Batch) -> Reading:
        """What this model has its backbone read for a batch: its prompt is made here, once."""
        prompt: Prompt | Mixture | None = None if self.prompt is None else self.prompt()
        if isinstance(prompt, Mixture):  # one pass in which every row stands once per prompt
            return Reading(batch.repeated(len(prompt.prompts)), prompt.prompts, prompt.log_weights)
        return Reading(batch, () if prompt is None else (prompt,))

    def logits(self, reading: Reading) -> Tensor:
        """Logits of the head for what was to be read, in a pass of its own."""
        batch, injection = reading.batch, reading.injection
        ids, mask = batch.input_ids, batch.attention_mask
        with self.adapted():
            if self.head.reads == "continuation":
                logits: Tensor = self.head(
                    continuation_logits(self.backbone, ids, mask, batch.targets[WRITTEN], injection), mask
                )
                return logits
            hidden = self.backbone(
                ids, mask, batch.token_type_ids, injection, every_layer=self.head.every_layer, cache=self.trunk
            )
            return self.answers(hidden, reading)

    def answers(self, hidden: Tensor, reading: Reading) -> Tensor:
        """Logits of the head, those of a mixture mixed, from hidden states ``(B K, T, ...)`` of what was read."""
        batch = reading.batch
        logits = head_logits(self.head, self.backbone, hidden, batch.input_ids, batch.attention_mask, marks=batch.marks)
        return logits if reading.log_weights is None else mix(logits, reading.log_weights, self.head.class_axis)

    def write(self, batch: Batch, **settings: Any) -> Tensor:
        """Token ids ``(B, U)`` that the language model goes on with, every row reading this model's prompt.

        Args:
            batch: of given texts.
            **settings: of `generate`.

        Raises:
            BackboneError: the model writes no text.
            MethodError: the prompt is a mixture.
        """
        injection = None if self.prompt is None else Injection([single(self.prompt())])
        with self.adapted():
            return generate(self.backbone, batch.input_ids, batch.attention_mask, injection, **settings)

    @property
    def first_layer(self) -> int:
        """The first layer that anything trained touches; N where that is the head alone."""
        return first_layer(self.backbone, self.prompt, self.attachment, self.tuned_weights().values())

    def sibling(self, head: Head) -> PromptedModel:
        """A model of another task that shares everything with this one but the head; no weights of the backbone."""
        return PromptedModel(self.backbone, self.method, head, self.prompt, attachment=self.attachment)

    def adapted(self) -> AbstractContextManager[None]:
        """While it lasts, the backbone computes as this model has changed it; whatever runs it does so inside.

        Raises:
            BackboneError: another model has tuned the backbone since this one was made.
        """
        self.backbone.check_unchanged(self._generation)
        return active(self.attachment)

    def parts(self) -> dict[str, nn.Module]:
        """The trained modules by name: 'head', and where the method has them 'prompt' and 'attachment'."""
        parts = {"head": self.head, "prompt": self.prompt, "attachment": self.attachment}
        return {name: module for name, module in parts.items() if module is not None}

    def tuned_weights(self) -> dict[str, nn.Parameter]:
        """The backbone's own weights that are trained, by their names in it."""
        return {name: weight for name, weight in self.backbone.model.named_parameters() if name in self.tuned}

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter that is trained, with its part's name ('backbone' for tuned weights) in front."""
        for part, module in self.parts().items():
            for name, parameter in module.named_parameters():
                yield f"{part}.{name}", parameter
        for name, parameter in self.tuned_weights().items():
            yield f"backbone.{name}", parameter

    def state(self) -> dict[str, Tensor]:
        """A detached copy of everything that is trained, on the CPU."""
        kept: dict[str, Tensor] = {f"backbone.{name}": weight for name, weight in self.tuned_weights().items()}
        for part, module in self.parts().items():
            kept |= {f"{part}.{name}": tensor for name, tensor in module.state_dict().items()}
        return {name: tensor.detach().to("cpu", copy=True) for name, tensor in kept.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave.

        Raises:
            RuntimeError: names or shapes differ.
        """
        for part, module in self.parts().items():
            module.load_state_dict(_of_part(state, part))
        self.load_tuned(_of_part(state, "backbone"))

    @torch.no_grad()
    def load_tuned(self, weights: Mapping[str, Tensor]) -> None:
        """Put back the backbone's tuned weights.

        Raises:
            RuntimeError: names or shapes differ.
        """
        tuned = self.tuned_weights()
        if weights.keys() != tuned.keys():
            raise RuntimeError(f"tuned weights of other names: {sorted(weights.keys() ^ tuned.keys())[:3]}")
        for name, weight in tuned.items():
            weight.copy_(weights[name])


class MultiTaskModel:
    """Models that share a backbone and all that is trained on it, but for a head each.

    Args:
        models: task name -> model, all but the first made by `PromptedModel.sibling`. There may be one alone.
    """

    def __init__(self, models: Mapping[str, PromptedModel]) -> None:
        self.models = dict(models)
        first = next(iter(self.models.values()))
        self.backbone, self.method = first.backbone, first.method

    def to(self, device: torch.device) -> None:
        """Move everything that is trained, and the backbone."""
        for model in self.models.values():
            model.to(device)

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter that is trained, once, with its part's name in front."""
        seen: set[nn.Parameter] = set()
        for model in self.models.values():
            fresh = [(name, parameter) for name, parameter in model.trainable() if parameter not in seen]
            seen.update(parameter for _, parameter in fresh)
            yield from fresh

    def state(self) -> dict[str, Tensor]:
        """What `PromptedModel.state` gives, heads under the name of their task."""
        return {
            f"{task}/{name}" if name.startswith("head.") else name: tensor
            for task, model in self.models.items()
            for name, tensor in model.state().items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave.

        Raises:
            RuntimeError: names or shapes differ.
        """
        for task, model in self.models.items():
            model.load_state({name.removeprefix(f"{task}/"): tensor for name, tensor in state.items()})


def first_layer(
    backbone: Backbone,
    encoder: PromptEncoder | None,
    attachment: Attachment | None,
    tuned: Iterable[nn.Parameter],
) -> int:
    """The first layer of a backbone that a prompt, attached modules or tuned weights touch, N where none does."""
    prompts: tuple[Prompt, ...] = ()
    if encoder is not None:
        prompt = fold(encoder)
        prompts = prompt.prompts if isinstance(prompt, Mixture) else (prompt,)
    parts: list[nn.Module | nn.Parameter] = [*tuned, *([] if attachment is None else attachment.places)]
    return min(backbone.first_layer(prompts), backbone.lowest_layer(parts))


def head_logits(
    head: Head, backbone: Backbone, hidden: Tensor, ids: Tensor, mask: Tensor, *, marks: Tensor | None = None
) -> Tensor:
    """Logits of a head, handed what it reads in the type of its own weights.

    Args:
        head: of whatever kind.
        backbone: that gave ``hidden``, and whose vocabulary the head may read.
        hidden: ``(B, T, D)``; of every layer, ``(B, T, (N + 1) D)``, where a head may want only the last.
        ids, mask: ``(B, T)``, of the text.
        marks: ``(B, T)``, numbers of marked stretches, where there are some.
    """
    seen = hidden if head.every_layer else hidden[..., -backbone.hidden_size :]
    if head.reads != "hidden":
        rows = torch.arange(len(ids), device=hidden.device)
        seen = backbone.vocabulary_features(seen[rows, backbone.answer_positions(ids, mask)])  # (B, W)
    if head.reads == "vocabulary":
        seen = backbone.vocabulary_logits(seen)  # (B, V)
    trained = next(head.parameters(), None)
    logits: Tensor = head(seen if trained is None else seen.to(trained.dtype), mask, marks)
    return logits


def mix(logits: Tensor, log_weights: Tensor, axis: int | None) -> Tensor:
    """Mix the answers of K prompts, in float32 or better: as probabilities, or else as the numbers they are.

    Padding, where a head gives the lowest number, keeps it along an axis of positions.

    Args:
        logits: ``(B K, ...)``, the K answers to one row behind one another.
        log_weights: ``(K,)``.
        axis: of ``logits``, along which a softmax gives probabilities (`Head.class_axis`), or None.

    Returns:
        Log probabilities ``(B, ...)``, which are logits of the mixture; without an axis, means of the logits.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    answers = (wide if axis is None else wide.log_softmax(axis)).reshape(-1, len(log_weights), *logits.shape[1:])
    shares = log_weights.view(-1, *[1] * (logits.dim() - 1))
    return (answers * shares.exp()).sum(1) if axis is None else torch.logsumexp(answers + shares, dim=1)


def _of_part(state: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
