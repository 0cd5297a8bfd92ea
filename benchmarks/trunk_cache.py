"""A training step with prompts at all layers, in the upper third, and there with the trunk cache full.

    python benchmarks/trunk_cache.py [--rows 16] [--tokens 256] [--steps 15] [--precision bf16]

Contenders take turns in one process, so that whatever else the machine does falls on all of them.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch

from foreword import Classification, PTuningV2, load_backbone
from foreword.backbones import TrunkCache
from foreword.caching import MemoryStore, in_words
from foreword.data.batching import Batch
from foreword.model import PromptedModel


def contender(backbone, layers: str, store: MemoryStore | None) -> PromptedModel:
    """A model with a prompt of 20 positions and a head of two classes."""
    head = Classification(labels=("no", "yes")).build_head(backbone.hidden_size, backbone)
    model = PromptedModel(backbone, PTuningV2(prompt_length=20, layers=layers), head)
    if store is not None:
        model.trunk = TrunkCache(backbone, model.first_layer, store)
    return model


def seconds(model: PromptedModel, batch: Batch, *, bf16: bool) -> float:
    """Of forward and backward pass."""
    model.train()
    began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        logits = model(batch)
    torch.nn.functional.cross_entropy(logits.float(), batch.targets["label"]).backward()
    return time.perf_counter() - began


def main() -> None:
    """Print a line per contender."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 16), ("tokens", 256), ("steps", 15)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--precision", choices=("bf16", "float32"), default="bf16")
    chosen = parser.parse_args()
    backbone = load_backbone("sentence-transformers/all-MiniLM-L6-v2")
    ids = torch.randint(1000, 20000, (chosen.rows, chosen.tokens), generator=torch.Generator().manual_seed(1))
    labels = {"label": torch.arange(chosen.rows) % 2}
    batch = Batch(ids, torch.ones_like(ids), torch.zeros_like(ids), labels, tuple(range(chosen.rows)))
    store = MemoryStore(1 << 30)
    models = {
        "all layers": contender(backbone, "all", None),
        "upper third": contender(backbone, f"top-{backbone.depth // 3}", None),
        "upper third, cached": contender(backbone, f"top-{backbone.depth // 3}", store),
    }
    times: dict[str, list[float]] = {name: [] for name in models}
    for step in range(chosen.steps + 2):
        for name, model in models.items():
            taken = seconds(model, batch, bf16=chosen.precision == "bf16")
            if step >= 2:  # the first ones fill the cache and warm up
                times[name].append(taken)
    for name, found in times.items():
        least, middle, most = (1000 * of(found) for of in (min, median, max))
        ratio = 1000 * median(times["all layers"]) / middle
        print(f"{name:20} {middle:7.1f} ms ({least:.1f} to {most:.1f})  {ratio:.2f}x")
    print(f"{in_words(store.size)} for {ids.numel()} tokens, {store.size / ids.numel():.0f} bytes each")


if __name__ == "__main__":
    main()
