"""Two choices of the backbone room, measured on a CPU: attention in float32, dropout from random bytes.

    python benchmarks/cpu_kernels.py [--threads 1] [--rounds 9]

Medians in milliseconds of one forward and backward pass. The contenders take turns, so that a noisy
machine disturbs both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from foreword.backbones.dropout import ByteDropout

SHAPES = ((16, 36), (64, 16), (32, 64), (16, 200), (16, 256))
PROMPT, HEADS, HEAD_SIZE, WIDTH = 20, 12, 32, 384
Step = Callable[[], Tensor]


def attention_steps(rows: int, length: int) -> tuple[Step, Step]:
    """bfloat16 as torch does it, and float32 with its casts as the attention seam does it while training."""
    query, key, value = (
        torch.randn(rows, HEADS, n, HEAD_SIZE, dtype=torch.bfloat16, requires_grad=True)
        for n in (length, length + PROMPT, length + PROMPT)
    )
    mask = torch.ones(rows, 1, length, length + PROMPT, dtype=torch.bool)
    return (
        lambda: scaled_dot_product_attention(query, key, value, attn_mask=mask),
        lambda: scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=mask).bfloat16(),
    )


def dropout_steps(rows: int, length: int) -> tuple[Step, Step]:
    """torch's dropout, and ours."""
    hidden = torch.randn(rows, length, WIDTH, requires_grad=True)
    usual, ours = nn.Dropout(0.1).train(), ByteDropout(0.1).train()
    return lambda: usual(hidden), lambda: ours(hidden)


def milliseconds(step: Step) -> float:
    """One forward and backward pass."""
    began = time.perf_counter()
    out = step()
    out.backward(torch.ones_like(out))
    return 1000 * (time.perf_counter() - began)


def table(title: str, make: Callable[[int, int], tuple[Step, Step]], names: tuple[str, str], rounds: int) -> None:
    """Print one comparison as Markdown."""
    print(f"\n{title}\n\n| rows x tokens | {names[0]} | {names[1]} | ratio |\n|---|---|---|---|")
    for rows, length in SHAPES:
        first, second = make(rows, length)
        times = [(milliseconds(first), milliseconds(second)) for _ in range(rounds)]
        usual, ours = (median(column) for column in zip(*times, strict=True))
        print(f"| {rows} x {length} | {usual:.1f} | {ours:.1f} | {usual / ours:.2f} |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table("Attention between bfloat16 layers", attention_steps, ("in bfloat16", "in float32"), options.rounds)
    table("Dropout of hidden states", dropout_steps, ("torch.nn.Dropout", "ByteDropout"), options.rounds)


if __name__ == "__main__":
    main()
