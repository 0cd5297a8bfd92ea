"""Three choices of the backbone room, measured on a CPU: attention by some rows at a time, dropout from random bytes,
and tokens of a batch in few sizes.

    python benchmarks/cpu_kernels.py [--threads 1] [--rounds 9]

Medians in milliseconds. The contenders take turns, so that a noisy
machine disturbs all.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from foreword.backbones.cpu_attention import attend_in_chunks, to_be_added
from foreword.backbones.dropout import ByteDropout
from suite.timing import resident_memory

SHAPES = ((64, 16), (16, 36), (32, 64), (16, 200), (16, 256), (8, 492))
PROMPT, HEADS, HEAD_SIZE, WIDTH = 20, 12, 32, 384
Step = Callable[[], Tensor]


def attention_steps(dtype: torch.dtype) -> Callable[[int, int], tuple[Step, ...]]:
    """As torch does it, in float32 with casts, and some rows at a time."""

    def make(rows: int, length: int) -> tuple[Step, ...]:
        query, key, value = (
            torch.randn(rows, HEADS, n, HEAD_SIZE, dtype=dtype, requires_grad=True)
            for n in (length, length + PROMPT, length + PROMPT)
        )
        mask = to_be_added(torch.ones(rows, 1, length, length + PROMPT, dtype=torch.bool), dtype)
        attend = scaled_dot_product_attention
        return (
            lambda: attend(query, key, value, attn_mask=mask),
            lambda: attend(query.float(), key.float(), value.float(), attn_mask=mask.float()).to(dtype),
            lambda: attend_in_chunks(query, key, value, mask, scaling=None, dropout=0.0),
        )

    return make


def dropout_steps(rows: int, length: int) -> tuple[Step, ...]:
    """torch's dropout, and ours."""
    hidden = torch.randn(rows, length, WIDTH, requires_grad=True)
    usual, ours = nn.Dropout(0.1).train(), ByteDropout(0.1).train()
    return lambda: usual(hidden), lambda: ours(hidden)


def milliseconds(step: Step, learning: bool) -> float:
    """One forward pass, and a backward pass if there is learning."""
    began = time.perf_counter()
    with torch.set_grad_enabled(learning):
        out = step()
    if learning:
        out.backward(torch.ones_like(out))
    return 1000 * (time.perf_counter() - began)


def table(
    title: str,
    make: Callable[[int, int], tuple[Step, ...]],
    names: Sequence[str],
    rounds: int,
    *,
    learning: bool = True,
) -> None:
    """Print one comparison as Markdown; the ratio is that of the first and the last."""
    print(f"\n{title}\n\n| rows x tokens | {' | '.join(names)} | ratio |\n|---|{'---|' * len(names)}---|")
    for rows, length in SHAPES:
        steps = make(rows, length)
        times = [[milliseconds(step, learning) for step in steps] for _ in range(rounds + 1)][1:]
        medians = [median(column) for column in zip(*times, strict=True)]
        shown = " | ".join(f"{one:.1f}" for one in medians)
        print(f"| {rows} x {length} | {shown} | {medians[0] / medians[-1]:.2f} |", flush=True)


def new_sizes() -> None:
    """Print what it costs to multiply by a matrix in sizes that were never met, beside one that was."""
    weight, tokens = torch.randn(4 * WIDTH, WIDTH).bfloat16(), torch.randn(4096, WIDTH).bfloat16()
    sizes = random.Random(0).sample(range(1000, 1300), 100)

    def run(sizes: Sequence[int]) -> float:
        with torch.no_grad():
            return median(milliseconds(partial(linear, tokens[:size], weight), learning=False) for size in sizes)

    run([1150] * 10)
    one, before = run([1150] * 100), resident_memory()
    new, kept = run(sizes), (resident_memory() - before) / len(sizes)
    print("\nA product in bfloat16 (some 1,150 tokens, 384 to 1,536), milliseconds\n")
    print("| a size met before | new sizes | the same sizes again | kept of a size |\n|---|---|---|---|")
    print(f"| {one:.2f} | {new:.2f} | {run(sizes):.2f} | {kept / 2**20:.2f} MiB |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    new_sizes()  # before there are holes in memory, which what is kept would go into
    ways = ("torch", "torch, in float32", "some rows at a time")
    for dtype in (torch.bfloat16, torch.float32):
        for learning in (True, False):
            title = f"Attention, {dtype}, {'forward and backward' if learning else 'forward'}"
            table(title, attention_steps(dtype), ways, options.rounds, learning=learning)
    table("Dropout of hidden states", dropout_steps, ("torch.nn.Dropout", "ByteDropout"), options.rounds)


if __name__ == "__main__":
    main()
