"""Few sizes: a CPU's bfloat16 kernels are compiled for every size they meet, which takes time, and are kept.

A new size of a matrix product costs about half a millisecond and half a MB (benchmarks/cpu_kernels.py), so sizes that
differ from batch to batch are rounded up to a few.
"""

from __future__ import annotations


def rounded_up(size: int, *, steps: int = 16) -> int:
    """The next of those sizes that divide each octave into steps.

    Args:
        size: at least 0.
        steps: between a power of two and the next, a power of two itself; the result is larger by 1 / steps at most.
    """
    step = max(1, (1 << size.bit_length()) // (2 * steps))
    return -(-size // step) * step
