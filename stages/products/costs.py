"""What a plan costs, in the units of the limits."""

from dataclasses import dataclass, field

from paredown.stages.products.documents import LEFT_OUT

UNITS = {"latency": "ms", "size": "MiB", "memory": "MiB", "loss": "nats"}


@dataclass(frozen=True)
class CostSummary:
    """Latency in ms, size and peak `memory` in MiB, and the expected `loss` in nats, the last two where they are known:
    memory is not always measured, and loss is only predicted."""

    latency: float
    size: float
    memory: float | None = field(default=None, metadata=LEFT_OUT)
    loss: float | None = field(default=None, metadata=LEFT_OUT)

    def named(self) -> dict[str, float]:
        """Those that are there, by the names that limits have."""
        every = {"latency": self.latency, "size": self.size, "memory": self.memory, "loss": self.loss}
        return {name: value for name, value in every.items() if value is not None}
