"""What a plan was expected to lose, and what it really loses on images that nobody fitted to."""

import math
from dataclasses import dataclass

ERRORS = 2.0
"""Standard errors, of measurement and prediction together, by which a plan loses more than expected to be harsh."""


UNKNOWN = 0.5
"""The spread where no whole plan was evaluated, of which it could be told."""


@dataclass(frozen=True, kw_only=True)
class LossCheck:
    """The loss of a plan before any training, in nats over the original: `predicted`, with the standard deviation
    `spread` of the logarithm of measured over predicted losses, of plans that coefficients were not fitted to (None
    where none was evaluated), none of which lost more than `most` nats; and `measured`, with its standard `error` over
    so many held-out `images`.

    `before` is the original's top-1 accuracy on the same images in percent, `points` what the plan adds to it, with its
    standard error `points_error`, paired over images.
    """

    predicted: float
    spread: float | None
    most: float | None
    measured: float
    error: float
    images: int
    before: float
    points: float
    points_error: float

    @property
    def factor(self) -> float:
        """Within which a measured loss is expected to be of the predicted one."""
        return math.exp(ERRORS * (UNKNOWN if self.spread is None else self.spread))

    @property
    def harsh(self) -> bool:
        """Whether more was lost than the errors of prediction and measurement explain, or than of any plan before."""
        most = math.inf if self.most is None else self.most
        return self._exceeds(self.predicted * self.factor) or self._exceeds(most)

    def _exceeds(self, nats: float) -> bool:
        return self.measured - ERRORS * self.error > nats

    def sentence(self) -> str:
        """Both losses and what they mean, for people; ± are standard errors."""
        sure = "" if self.spread is None else f" (within a factor of {self.factor:.2g})"
        expected = f"expected loss {self.predicted:.3g} nats{sure}"
        measured = f"measured on {self.images} held-out images {self.measured:.3g} ± {self.error:.1g}"
        points = f"{self.points:+.1f} ± {self.points_error:.1f} points of top-1 before any training"
        text = f"{expected}, {measured} ({points})"
        if not self.harsh:
            return text
        why = "losses of its parts no longer add up"
        if self.most is not None and self._exceeds(self.most):
            why = f"it loses more than any that losses were fitted to ({self.most:.2g})"
        return f"{text}: this plan is harsh, {why}; recovery starts from there"
