"""Attention forward and backward on a CPU: bfloat16 against float32 with its casts.

    python benchmarks/attention_precision.py [--threads 1] [--rounds 9]

Medians in milliseconds; the two take turns, so that a noisy machine disturbs both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

SHAPES = ((16, 36), (64, 16), (32, 64), (16, 200), (16, 256))
PROMPT, HEADS, SIZE = 20, 12, 32


def in_bfloat16(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """As torch does it when asked plainly."""
    return scaled_dot_product_attention(query, key, value, attn_mask=mask)


def in_float32(query: Tensor, key: Tensor, value: Tensor, mask: Tensor) -> Tensor:
    """As the attention seam does it while training."""
    return scaled_dot_product_attention(query.float(), key.float(), value.float(), attn_mask=mask).to(query.dtype)


def milliseconds(attend: Callable[..., Tensor], rows: int, length: int) -> float:
    """One forward and backward pass."""
    query, key, value = (
        torch.randn(rows, HEADS, n, SIZE, dtype=torch.bfloat16, requires_grad=True)
        for n in (length, length + PROMPT, length + PROMPT)
    )
    mask = torch.ones(rows, 1, length, length + PROMPT, dtype=torch.bool)
    began = time.perf_counter()
    out = attend(query, key, value, mask)
    out.backward(torch.ones_like(out))
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print("| rows x tokens | bfloat16 | float32 | ratio |\n|---|---|---|---|")
    for rows, length in SHAPES:
        times = [(milliseconds(in_bfloat16, rows, length), milliseconds(in_float32, rows, length))
                 for _ in range(options.rounds)]  # fmt: skip
        low, full = (median(column) for column in zip(*times, strict=True))
        print(f"| {rows} x {length} | {low:.1f} | {full:.1f} | {low / full:.2f} |")


if __name__ == "__main__":
    main()
