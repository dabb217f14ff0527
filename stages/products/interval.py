"""A measured number and the interval around it."""

from dataclasses import dataclass

CONFIDENCE = 0.99
"""How often an interval holds the true value, where a recipe's `limits.confidence` asks for nothing else."""

Ends = tuple[float, float]
"""The low and the high end of an interval."""


@dataclass(frozen=True)
class Interval:
    """A value, and the ends between which it lies with the confidence that was asked for."""

    value: float
    low: float
    high: float

    @property
    def ends(self) -> Ends:
        return self.low, self.high

    def holds(self, value: float) -> bool:
        """Whether the interval holds a value."""
        return self.low <= value <= self.high

    def scaled(self, factor: float) -> "Interval":
        """In another unit, or of something that is `factor` (above 0) times as much."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)
