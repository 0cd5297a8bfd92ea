"""How long a forward pass takes: ``seconds = a * tokens + b``, fitted while serving."""

from __future__ import annotations

from dataclasses import dataclass

_MEMORY = 0.97
"""How much each pass counts compared with the one after it: about the last 30 decide."""
_AT_FIRST = 50e-6
"""Seconds per token before anything was measured."""


@dataclass(slots=True)
class Pace:
    """A line through the latest passes, by least squares with fading weights.

    Attributes:
        padding: padded tokens per real one, lately.
    """

    padding: float = 1.0
    _weight: float = 0.0
    _tokens: float = 0.0
    _seconds: float = 0.0
    _squares: float = 0.0
    _products: float = 0.0

    def learn(self, tokens: int, padded: int, seconds: float) -> None:
        """Take in a pass.

        Args:
            tokens: real ones.
            padded: with padding.
            seconds: it took.
        """
        self._weight = _MEMORY * self._weight + 1
        self._tokens = _MEMORY * self._tokens + padded
        self._seconds = _MEMORY * self._seconds + seconds
        self._squares = _MEMORY * self._squares + padded**2
        self._products = _MEMORY * self._products + padded * seconds
        self.padding += 0.1 * (padded / max(tokens, 1) - self.padding)

    @property
    def line(self) -> tuple[float, float]:
        """``a`` in seconds per padded token and ``b`` in seconds, neither negative."""
        if not self._weight:
            return _AT_FIRST, 0.0
        tokens, seconds = self._tokens / self._weight, self._seconds / self._weight
        spread = self._squares / self._weight - tokens**2
        through_zero = seconds / max(tokens, 1.0)
        if spread <= (0.05 * tokens) ** 2:  # all of one size: how it splits cannot be told
            return through_zero, 0.0
        slope = (self._products / self._weight - tokens * seconds) / spread
        slope = min(max(slope, 0.1 * through_zero), through_zero)
        return slope, seconds - slope * tokens

    def drain(self, tokens: float, batch_tokens: int) -> float:
        """Seconds until so many waiting tokens are answered."""
        slope, base = self.line
        padded = tokens * self.padding
        return slope * padded + base * -(-padded // batch_tokens)
