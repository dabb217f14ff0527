"""What a plan was expected to lose, and what it really loses on images that nobody fitted to."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LossCheck:
    """The loss of a plan before any training, in nats over the original: `predicted`, and `measured` with its standard
    `error` over so many validation `images`, none of which losses were fitted to.

    `before` and `after` are the top-1 accuracies of the original and of the plan on the same images, in percent.
    `harsh`: more was lost than the errors of prediction and measurement explain.
    """

    predicted: float
    measured: float
    error: float
    images: int
    before: float
    after: float
    harsh: bool

    def sentence(self) -> str:
        """Both losses and what they mean, for people."""
        found = f"{self.measured:.3g} ± {self.error:.1g}"
        points = f"{self.after - self.before:+.1f} points of top-1 before any training"
        text = f"expected loss {self.predicted:.3g} nats, measured on {self.images} held-out images {found} ({points})"
        if not self.harsh:
            return text
        return f"{text}: this plan is harsh, losses of its parts no longer add up; recovery starts from there"
