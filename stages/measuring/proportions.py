"""Intervals of shares of images, how two models differ on the same images, and how small a difference these can tell.

In closed form, with nothing but the standard library: `paredown gate` and `paredown show` start without scipy.
"""

import math
from statistics import NormalDist

from paredown.stages.measuring.answers import Answers
from paredown.stages.products.evidence import AccuracyChange
from paredown.stages.products.interval import CONFIDENCE, Ends, Interval

POWER = 0.8
"""A limit counts as one that images can tell where they prove it, this often, of a model that lost nothing."""
NO_LOSS = 1e-6
"""Points that no number of images can tell from none: it would take more than there are anywhere."""
ASSUMED_DISCORDANCE = 0.05
"""Share of images on which exactly one of original and artifact is right, as long as nobody has counted them."""


def wilson_ends(share: float, images: int, confidence: float = CONFIDENCE) -> Ends:
    """The ends (0 to 1) of Wilson's score interval of a share (0 to 1) of so many images. Unlike a standard error it
    says something where all images are right, or none (Wilson, JASA 22, 1927)."""
    z2 = _deviations(confidence) ** 2
    centre = (share + z2 / (2 * images)) / (1 + z2 / images)
    half = math.sqrt(z2 * (share * (1 - share) / images + z2 / (4 * images**2))) / (1 + z2 / images)
    return max(0.0, centre - half), min(1.0, centre + half)


def accuracy_ends(points: float, images: int, confidence: float = CONFIDENCE) -> Ends:
    """`wilson_ends` of an accuracy in points, 0 to 100."""
    low, high = wilson_ends(points / 100, images, confidence)
    return 100 * low, 100 * high


def accuracy_change(before: Answers, after: Answers, confidence: float = CONFIDENCE) -> AccuracyChange:
    """How much more often a model is right than another one on the same images in the same order."""
    were, are = before.classes == before.labels, after.classes == after.labels
    lost, gained, images = int((were & ~are).sum()), int((are & ~were).sum()), len(before.labels)
    return AccuracyChange(paired_change(lost, gained, images, confidence), lost, gained, images)


def paired_change(lost: int, gained: int, images: int, confidence: float = CONFIDENCE) -> Interval:
    """The points gained, where of so many `images` only the first model had `lost` right, and only the second `gained`.

    The interval is that of Bonett and Price (J. Educ. Behav. Stat. 37, 2012): Wald's with one image more of either
    kind, so that models which never differed on a few images are not taken for equal on all.
    """
    low_share, high_share, count = (lost + 1) / (images + 2), (gained + 1) / (images + 2), images + 2
    centre = high_share - low_share
    half = _deviations(confidence) * math.sqrt((low_share + high_share - centre**2) / count)
    ends = max(-1.0, centre - half), min(1.0, centre + half)
    return Interval(100 * (gained - lost) / images, 100 * ends[0], 100 * ends[1])


def images_to_tell(points: float, discordance: float, confidence: float = CONFIDENCE) -> int:
    """How many images it takes to tell a loss of so many points (above 0): of a model that lost nothing, and of which
    a share `discordance` of images has one model right and the other wrong, they prove with `POWER` that it lost less.
    """
    needed = _deviations(confidence) + NormalDist().inv_cdf(POWER)
    return math.ceil(discordance * (needed / (points / 100)) ** 2)


def resolution(points: float, images: int, discordance: float, confidence: float = CONFIDENCE) -> str:
    """`656 images cannot tell 1 point; about 2,600 could`; empty where they can."""
    told = f"{images:,} images cannot tell {points:g} point{'' if points == 1 else 's'}"
    if points < NO_LOSS:
        return f"{told}: no number of images can"
    needed = images_to_tell(points, discordance, confidence)
    return f"{told}; about {_two_digits(needed):,} could" if needed > images else ""


def _deviations(confidence: float) -> float:
    """Standard deviations to either side that hold a normal value with this confidence."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _two_digits(number: int) -> int:
    """Rounded up to two digits: it comes of an estimate."""
    unit = int(10 ** max(0, len(str(number)) - 2))
    return -(-number // unit) * unit
