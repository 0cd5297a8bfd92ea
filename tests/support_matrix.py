"""What works with what, found out by trying: every method on every family, feature by feature.

`examine` tries one combination on a tiny model. `python tests/support_matrix.py` tries all of them and
writes docs/support.md; `test_support_matrix.py` tries them again and compares.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foreword.artifacts.format import Artifact, backbone_entry, load_artifact, save_artifact
from foreword.artifacts.manifest import FORMAT_VERSION, Manifest
from foreword.artifacts.tensors import prompt_names
from foreword.backbones import FAMILIES, Backbone
from foreword.backbones.generation import continuation_logits, generate
from foreword.errors import ForewordError
from foreword.inference.engine import Engine
from foreword.injection import Injection, Mixture, Prompt
from foreword.methods import METHODS, Method, single
from foreword.model import PromptedModel, mix
from foreword.tasks import Classification
from tiny import tiny_backbone

PAGE = Path(__file__).parents[1] / "docs" / "support.md"
TEXTS = ("Anna visited London.", "The old doctor was reading about banks.", "It")
WRITTEN = torch.tensor([[7, 9, 11], [8, 12, 6], [10, 7, 9]])  # what a decoder is asked about
TASK = Classification(labels=("no", "yes"), dropout=0)

YES, NO, REFUSED, NOTHING = "yes", "NO", "refused", "-"

CLOSE = 2e-5
"""In float64, where DeBERTa's norms, and LoRA's and adapters' own layers, round to float32 all the same."""


def settings_of(method: str, length: int, family: str) -> Method:
    """A method with few vectors, as it is tried on a family."""
    kind = METHODS[method]
    chosen: dict[str, Any] = {}
    if "prompt_length" in kind.model_fields:
        chosen["prompt_length"] = length
    if "template" in kind.model_fields:
        reads_on = FAMILIES[family].kind == "decoder"  # nothing of the text ever reads what stands behind it
        chosen["template"] = (length, "text") if reads_on else (length - 1, "text", 1)
    if method == "combined":
        chosen["parts"] = tuple(settings_of(part, length, family) for part in ("ptuning-v2", "adapter"))
    if method == "mixture":
        chosen |= {"of": settings_of("ptuning-v2", length, family), "count": 2}
    small = {"mlp_hidden": 8, "dropout": 0, "bottleneck": 4, "r": 2}
    return kind(**chosen, **{name: value for name, value in small.items() if name in kind.model_fields})


UNREAD = {"clip_vision_model": "post_layernorm"}
"""Weights that make a pooled output alone, which nothing here reads: tuned in vain, and as they were."""


class Inapplicable(Exception):
    """There is nothing to check: the method has no such part."""


@dataclass
class Row:
    """What came of one combination.

    Attributes:
        cells: feature -> one of the words above.
        reasons: feature -> why it is refused.
        failures: feature -> what went wrong. Nothing ever should.
    """

    cells: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


@cache
def shared_backbone(family: str, dtype: torch.dtype) -> Backbone:
    """One backbone for all methods that leave its weights alone."""
    return fresh_backbone(family, dtype)


def fresh_backbone(family: str, dtype: torch.dtype) -> Backbone:
    """With its vocabulary head where it writes text."""
    line = FAMILIES[family]
    writes = line.kind in ("decoder", "encoder-decoder") and line.project is not None
    return tiny_backbone(family, dtype=dtype, language_model=writes)


class Case:
    """One method on one family, its numbers stirred so that nothing of it is without effect.

    Args:
        family, method: keys of the two tables.
    """

    def __init__(self, family: str, method: str) -> None:
        self.family, self.method = family, method
        self.settings = settings_of(method, 3, family)
        self.model = self._model(torch.float64, self.settings)
        stir(self.model)

    def _model(self, dtype: torch.dtype, settings: Method) -> PromptedModel:
        backbone = (fresh_backbone if settings.tunes_backbone else shared_backbone)(self.family, dtype)
        torch.manual_seed(1)
        head = TASK.build_head(backbone.hidden_size, backbone)
        return PromptedModel(backbone, settings, head, labels=TASK.labels or ()).eval()

    @cached_property
    def float32(self) -> PromptedModel:
        """The same model on weights in float32."""
        model = self._model(torch.float32, self.settings)
        model.load_state({name: t.float() for name, t in self.model.state().items()})
        return model

    @cached_property
    def other(self) -> PromptedModel:
        """Another task's model: a longer prompt of the same method."""
        model = self._model(torch.float64, settings_of(self.method, 5, self.family))
        stir(model, seed=2)
        return model

    @cached_property
    def artifact(self) -> Artifact:
        """The model written to disk and read back."""
        path = Path(tempfile.mkdtemp(dir=_scratch().name)) / "artifact"
        save_artifact(path, self.model, manifest(self.model))
        return load_artifact(path)

    @property
    def reads_images(self) -> bool:
        """Whether its rows are images and not texts."""
        return FAMILIES[self.family].kind == "image"

    @property
    def own(self) -> dict[str, torch.nn.Parameter]:
        """What is trained but the head."""
        unread = UNREAD.get(self.family, "head.")
        return {n: p for n, p in self.model.trainable() if not n.startswith("head.") and unread not in n}

    def states(
        self, model: PromptedModel | None = None, *, injection: Injection | Mixture | None = None, **rows: Any
    ) -> list[Tensor]:
        """What the model makes of the texts: per row hidden states of its tokens, logits of what it writes, or both.

        Args:
            model: this case's own if None.
            injection: instead of the model's prompt for all rows; of a mixture what its prompts make of them, mixed.
            **rows: as `inputs` takes them.
        """
        model = model or self.model
        if injection is None and model.prompt is not None:
            injection = for_all(model.prompt())
        with model.adapted():
            if not isinstance(injection, Mixture):
                return run(model.backbone, injection, **rows)
            each = zip(*(run(model.backbone, Injection([one]), **rows) for one in injection.prompts), strict=True)
            return [mix(torch.stack(row), injection.log_weights, -1)[0] for row in each]


def for_all(prompt: Prompt | Mixture) -> Injection | Mixture:
    """What is read where all rows read the same."""
    return prompt if isinstance(prompt, Mixture) else Injection([prompt])


def run(backbone: Backbone, injection: Injection | None, **rows: Any) -> list[Tensor]:
    """What a backbone makes of the texts, one tensor per row."""
    if backbone.kind == "image":
        return list(backbone.encode_images(images(backbone, **rows), injection))
    ids, mask, which = inputs(backbone, **rows)
    if backbone.kind == "encoder-decoder":
        return list(continuation_logits(backbone, ids, mask, WRITTEN[which], injection))
    hidden = backbone(ids, mask, None, injection)
    states = [row[real.bool()] for row, real in zip(hidden, mask, strict=True)]
    if not backbone.language_model:
        return states
    # What a decoder writes reads all of a prompt, also what of it stands behind the text.
    logits = continuation_logits(backbone, ids, mask, WRITTEN[which], injection)
    return [torch.cat([row.flatten(), ahead.flatten()]) for row, ahead in zip(states, logits, strict=True)]


def images(backbone: Backbone, only: int | None = None, **_: Any) -> Tensor:
    """Three images, or one."""
    config = backbone.trunk.config
    shape = (3, config.num_channels, config.image_size, config.image_size)
    pixels = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(backbone.model.dtype)
    return pixels if only is None else pixels[only : only + 1]


def inputs(
    backbone: Backbone, *, only: int | None = None, side: str = "right", extra: int = 0
) -> tuple[Tensor, Tensor, Any]:
    """Ids and mask of the texts, or of one, padded on one side; and which texts they are."""
    which = list(range(len(TEXTS))) if only is None else [only]
    rows = [backbone.tokenizer(TEXTS[i])["input_ids"] for i in which]
    width, pad = max(map(len, rows)) + extra, backbone.tokenizer.pad_token_id or 0
    ids, mask = torch.full((len(rows), width), pad), torch.zeros((len(rows), width), dtype=torch.long)
    for number, tokens in enumerate(rows):
        place = slice(0, len(tokens)) if side == "right" else slice(width - len(tokens), width)
        ids[number, place], mask[number, place] = torch.tensor(tokens), 1
    return ids, mask, which


@torch.no_grad()
def stir(model: PromptedModel, seed: int = 1) -> None:
    """Move everything that is trained away from where it starts, which is often where it does nothing."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.trainable():
        scale = {"backbone": 0.05, "attachment": 0.1}.get(name.partition(".")[0], 0.3)
        parameter.add_(scale * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))


def same(found: list[Tensor], expected: list[Tensor], tolerance: float = CLOSE) -> None:
    """Fail where two lists of tensors differ."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def gradients(case: Case, states: list[Tensor]) -> dict[str, Tensor]:
    """Of a sum with random weights, by name, for all that is trained but the head."""
    generator = torch.Generator().manual_seed(7)
    loss = sum((s * torch.randn(s.shape, generator=generator).to(s.dtype)).sum() for s in states)
    case.model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in case.own.items() if p.grad is not None}


def check_effect(case: Case) -> None:
    """Other numbers in what is trained change the states of every row."""
    if not case.own:
        raise Inapplicable
    with torch.no_grad():
        before = case.states()
        kept = case.model.state()
        stir(case.model, seed=3)
        after = case.states()
        case.model.load_state(kept)
        bare = bare_states(case) if not case.settings.tunes_backbone else after
    for one, two, none in zip(before, after, bare, strict=True):
        assert (one - two).abs().max() > 1e-3, "other numbers of the prompt change nothing"
        assert case.settings.tunes_backbone or (one - none).abs().max() > 1e-3, "the prompt changes nothing"


def bare_states(case: Case) -> list[Tensor]:
    """What the backbone makes of the texts without a prompt, in the terms in which the method answers."""
    states = run(case.model.backbone, None)
    return [row.log_softmax(-1) for row in states] if case.method == "mixture" else states


def prompts_of(prompt: Prompt | Mixture) -> list[Prompt]:
    """One, or those of a mixture."""
    return list(prompt.prompts) if isinstance(prompt, Mixture) else [prompt]


def check_gradient(case: Case) -> None:
    """Everything that is trained gets a gradient, and so does every position of every tensor of the prompt."""
    if not case.own:
        raise Inapplicable
    prompt = None if case.model.prompt is None else case.model.prompt()
    tensors = {name: t for name, t in prompt_names(prompt).items() if t.is_floating_point()}
    for tensor in tensors.values():
        tensor.retain_grad()
    states = case.states(injection=None if prompt is None else for_all(prompt))
    found = gradients(case, states)
    for name in case.own:
        assert name in found, f"{name} gets none"
        assert found[name].isfinite().all(), f"{name}: not finite"
        assert (found[name] != 0).any(), f"{name}: all zero"
    for name, tensor in tensors.items():
        along = tensor.grad.movedim(-2, 0) if tensor.dim() > 1 else tensor.grad[:, None]  # by position, or by head
        assert (along.flatten(1) != 0).any(1).all(), f"{name}: some position gets none"


@torch.no_grad()
def check_padding(case: Case) -> None:
    """A row alone is the row in a batch that is padded, on whatever side."""
    alone = [case.states(only=i)[0] for i in range(len(TEXTS))]
    for side in ("right",) if case.reads_images else ("right", "left"):
        same(case.states(side=side, extra=2), alone)


@torch.no_grad()
def check_mixed(case: Case) -> None:
    """Rows that read prompts of different lengths, or none, are what they are alone."""
    if case.settings.attaches or case.settings.tunes_backbone:
        engine = Engine(case.model.backbone, {"task": case.artifact})
        engine.load(engine.resolve("task"))  # which refuses it
        raise AssertionError("such a method cannot share a batch, and nobody said so")
    others, own = ([Prompt()] if m.prompt is None else prompts_of(m.prompt()) for m in (case.other, case.model))
    bank = [*others, *own, Prompt()]
    rows = [len(others), 0, len(bank) - 1]
    mixed = run(case.model.backbone, Injection(bank, torch.tensor(rows)))
    same(mixed, [run(case.model.backbone, Injection([bank[row]]), only=i)[0] for i, row in enumerate(rows)])


def check_checkpointing(case: Case) -> None:
    """Recomputing activations changes neither states nor gradients."""
    backbone, results = case.model.backbone, []
    for recompute in (False, True):
        backbone.gradient_checkpointing(recompute)
        backbone.train()
        try:
            states = case.states()
            results.append((states, gradients(case, states) if case.own else {}))
        finally:
            backbone.gradient_checkpointing(False)
            backbone.eval()
    (states, found), (again, recomputed) = results
    same(again, states)
    assert found.keys() == recomputed.keys()
    same(list(recomputed.values()), list(found.values()))


@torch.no_grad()
def check_bf16(case: Case) -> None:
    """Computing in bfloat16 gives nearly what float32 gives."""
    exact = torch.cat([s.flatten() for s in case.states(case.float32)])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = torch.cat([s.flatten().float() for s in case.states(case.float32)])
    away = float((rough - exact).norm() / exact.norm())
    assert 0 < away < 0.1, f"off by {away:.1%}"


def check_frozen(case: Case) -> None:
    """A step of an optimizer leaves every bit of the backbone that is not trained, and moves all that is."""
    model = case.float32
    kept = {name: t.clone() for name, t in model.backbone.model.state_dict().items()}
    start = model.state()
    optimizer = torch.optim.AdamW([p for _, p in model.trainable()], lr=1e-2, weight_decay=0.1)
    states = case.states(model)
    pooled = torch.stack([row.flatten()[: model.backbone.hidden_size] for row in states])
    model.head(pooled[:, None], torch.ones(len(pooled), 1)).square().sum().backward()
    optimizer.step()
    moved = {n for n, t in model.backbone.model.state_dict().items() if not torch.equal(t, kept[n])}
    assert moved <= set(aliases(model)), f"moved: {sorted(moved - set(aliases(model)))[:3]}"
    still = [name for name, tensor in model.state().items() if name in case.own and torch.equal(tensor, start[name])]
    assert still == [], f"never trained: {still[:3]}"
    model.load_state(start)
    if case.method == "fine-tuning":
        raise Inapplicable


def aliases(model: PromptedModel) -> Iterator[str]:
    """Names of trained weights of the backbone, also those that tied weights have besides."""
    trained = {id(p) for p in model.tuned_weights().values()}
    yield from (n for n, p in model.backbone.model.named_parameters(remove_duplicate=False) if id(p) in trained)


@torch.no_grad()
def check_saved(case: Case) -> None:
    """Folded, written, read back and put on a fresh backbone, it gives the same numbers."""
    expected = case.states()
    backbone = fresh_backbone(case.family, torch.float64)
    found = case.artifact.build_model(backbone)
    same(case.states(found), expected, 1e-5)  # an artifact holds float32


@torch.no_grad()
def check_writing(case: Case) -> None:
    """What it writes with a cache is what it writes without, and what it writes for each row alone."""
    backbone = case.model.backbone
    if not backbone.language_model:
        raise Inapplicable
    injection = None if case.model.prompt is None else Injection([single(case.model.prompt())])
    ids, mask, _ = inputs(backbone, side="left")
    settings = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    with case.model.adapted():
        cached = generate(backbone, ids, mask, injection, **settings)
        assert torch.equal(generate(backbone, ids, mask, injection, use_cache=False, **settings), cached)
        alone = inputs(backbone, only=2)
        assert torch.equal(generate(backbone, *alone[:2], injection, **settings)[0], cached[2])


FEATURES: dict[str, Callable[[Case], None]] = {
    "effect": check_effect,
    "gradient": check_gradient,
    "padding": check_padding,
    "mixed": check_mixed,
    "checkpointing": check_checkpointing,
    "bf16": check_bf16,
    "frozen": check_frozen,
    "saved": check_saved,
    "writing": check_writing,
}


def examine(family: str, method: str) -> Row:
    """Try every feature of one combination."""
    row = Row()
    try:
        case = Case(family, method)
        if case.model.prompt is not None:
            case.states()  # what cannot be read is refused at once
    except ForewordError as error:
        row.cells = dict.fromkeys(FEATURES, REFUSED)
        row.reasons = {"": plain(str(error), family, method)}
        return row
    for feature, check in FEATURES.items():
        try:
            check(case)
            row.cells[feature] = YES
        except Inapplicable:
            row.cells[feature] = NOTHING
        except ForewordError as error:
            row.cells[feature], row.reasons[feature] = REFUSED, plain(str(error), family, method)
        except Exception as error:  # whatever it is, it is a NO
            row.cells[feature] = NO
            row.failures[feature] = f"{type(error).__name__}: {error}".strip()
    if case.model.attachment is not None:
        case.model.attachment.detach()
    return row


def plain(message: str, family: str, method: str) -> str:
    """An error without the folders of this machine, and without what its place in the page says already."""
    text = re.sub(r"\S*foreword-\S+?: ", "", message).removeprefix("task: ")
    return text.replace(f"a {family} model", "such a model").replace(f"'{method}'", "the method").rstrip(".")


def manifest(model: PromptedModel) -> Manifest:
    """As true as a model that was never trained can have one."""
    return Manifest.model_validate(
        {
            "format_version": FORMAT_VERSION,
            "created": "2026-01-01T00:00:00+00:00",
            "backbone": backbone_entry(model.backbone),
            "task": {"type": TASK.name, "settings": TASK.model_dump(mode="json")},
            "method": {"type": model.method.name, "settings": model.method.model_dump(mode="json")},
            "recipe": {},
            "max_length": None,
            "data": {side: {"files": {}, "examples": 0, "rows": 0, "notes": {}} for side in ("train", "dev")},
            "metrics": {"main": "accuracy", "values": {"accuracy": 0.0}, "counts": {}},
            "parameters": {"prompt": 0, "head": 1, "backbone_trained": 0, "backbone": 1},
            "training": {"seed": 0, "steps": 0, "best_step": 0, "seconds": 0, "padding": 0, "evaluations": []},
            "versions": {},
            "files": {},
        }
    )


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="foreword-support-")


def line(method: str, row: Row) -> str:
    """One combination as a line of its family's table."""
    return f"| {method} | {' | '.join(row.cells[feature] for feature in FEATURES)} |"


def summary(row: Row) -> str:
    """One combination as a cell of the first table."""
    cells = list(row.cells.values())
    if NO in cells:
        return NO
    return REFUSED if set(cells) == {REFUSED} else f"{cells.count(YES)} of {len(cells) - cells.count(NOTHING)}"


INTRODUCTION = """# What works with what

Every method on every family of backbones, found out by trying. This page is written by
`python tests/support_matrix.py`, and `tests/test_support_matrix.py` compares it with what it finds
(`pytest tests/test_support_matrix.py -k "[vit-"` tries one family alone). Each combination is tried on a tiny
random model of the family, which says nothing of how well it learns.

- **yes**: tried, and true. **-**: the method has no such part. **refused**: it cannot be, and an error says why.
- **effect**: other numbers in what is trained change the states of every row.
- **gradient**: it reaches every trained tensor, and every position of the prompt.
- **padding**: a row alone is the row in a batch padded on the right or on the left.
- **mixed**: rows of one batch read prompts of different lengths, or none, and are what they are alone.
- **checkpointing**: recomputing activations changes neither states nor gradients.
- **bf16**: computed in bfloat16, states are within 10 % of float32's.
- **frozen**: a step of training leaves every bit of the backbone that is not trained.
- **saved**: folded, written and read back on a fresh backbone it gives the same numbers.
- **writing**: what is generated with a cache is what is generated without, and for each row alone. For
  decoders and encoder-decoders; the other columns of an encoder-decoder are about its decoder's logits.

`torch.compile` is tried with every kind of prompt in `tests/backbones/test_compile.py`.
"""


def render(rows: Mapping[tuple[str, str], Row]) -> str:
    """The whole page."""
    families, methods = sorted({f for f, _ in rows}), list(dict.fromkeys(m for _, m in rows))
    out = [INTRODUCTION, "## All at once\n", table(["family", *methods])]
    out += [f"| {f} | {' | '.join(summary(rows[f, m]) for m in methods)} |" for f in families]
    for family in families:
        out += [
            f"\n## {family}\n",
            f"{FAMILIES[family].summary} ({FAMILIES[family].kind}).\n",
            table(["method", *FEATURES]),
        ]
        out += [line(method, rows[family, method]) for method in methods]
        out += [f"\n{note}" for note in notes(family, rows)]
    return "\n".join(out) + "\n"


def notes(family: str, rows: Mapping[tuple[str, str], Row]) -> list[str]:
    """Why what is refused in a family is refused, each reason once."""
    by_reason: dict[str, list[str]] = {}
    for (of, method), row in rows.items():
        if of == family:
            for feature, reason in row.reasons.items():
                by_reason.setdefault(reason, []).append(f"{method}{feature and f' ({feature})'}")
    return [f"Refused, {', '.join(where)}: {reason}." for reason, where in by_reason.items()]


def table(names: list[str]) -> str:
    """The head of a table."""
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def main() -> int:
    """Try everything and write the page; a failure is told and nothing is written."""
    rows = {}
    for family in sorted(FAMILIES):
        for method in METHODS:
            rows[family, method] = examine(family, method)
        shared_backbone.cache_clear()
    failed = [f"{family}, {method}: {row.failures}" for (family, method), row in rows.items() if row.failures]
    if failed:
        sys.stderr.write("\n".join(failed) + "\n")
        return 1
    PAGE.write_text(render(rows), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
