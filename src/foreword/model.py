"""Where the three meet: a backbone, a method's prompt, and a task's head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from foreword.backbones import Backbone
from foreword.data.batching import Batch
from foreword.heads import Head
from foreword.injection import Injection
from foreword.methods import Method, PromptEncoder


class PromptedModel(nn.Module):
    """Prompt in, logits out. The trainable parameters are listed here and nowhere else.

    Args:
        backbone: the pretrained model; unfrozen here if the method tunes it.
        method: how it is adapted; a fresh prompt encoder is built from it.
        head: the task's head.
        prompt: a prompt encoder to use instead of a fresh one, such as a folded prompt.
        labels: of the task, for methods that start from their names.
    """

    def __init__(
        self,
        backbone: Backbone,
        method: Method,
        head: Head,
        prompt: PromptEncoder | None = None,
        *,
        labels: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.method = method
        self.prompt = prompt or method.build(backbone, labels)
        self.head = head
        if method.tunes_backbone:
            backbone.unfreeze()
        else:
            backbone.freeze()

    def forward(self, batch: Batch) -> Tensor:
        """Logits of the task's head for one batch, every row reading this model's prompt."""
        injection = None if self.prompt is None else Injection([self.prompt()])
        hidden = self.backbone(batch.input_ids, batch.attention_mask, batch.token_type_ids, injection)
        logits: Tensor = self.head(hidden.to(next(self.head.parameters()).dtype), batch.attention_mask)
        return logits

    def parts(self) -> dict[str, nn.Module]:
        """The trained modules by name: 'prompt', 'head', and 'backbone' where it is tuned."""
        parts: dict[str, nn.Module] = {"head": self.head}
        if self.prompt is not None:
            parts["prompt"] = self.prompt
        if self.method.tunes_backbone:
            parts["backbone"] = self.backbone.model
        return parts

    def trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every parameter that is trained, with its part's name in front."""
        for part, module in self.parts().items():
            for name, parameter in module.named_parameters():
                yield f"{part}.{name}", parameter

    def state(self) -> dict[str, Tensor]:
        """A detached copy of everything that is trained, on the CPU."""
        return {
            f"{part}.{name}": tensor.detach().to("cpu", copy=True)
            for part, module in self.parts().items()
            for name, tensor in module.state_dict().items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave.

        Raises:
            RuntimeError: names or shapes differ.
        """
        for part, module in self.parts().items():
            prefix = f"{part}."
            module.load_state_dict(
                {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
            )
