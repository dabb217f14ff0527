"""How long a kind of work takes, in ms: one law over all places of the kind, and how each place differs from it.

The law is linear in what is computed, read and written, and never negative: it says what a size costs that was never
measured. What a place differs from it by, as a factor, is a Gaussian process over its sizes: near what was measured it
says what was measured, far away it falls back to the place's own mean factor, and it says how far it may be off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Floats = NDArray[np.float64]

OFFSET, CURVE, PATH = 0.5, 0.12, 0.2
"""Standard deviations of a place's factor: alike for all work, from size to size, and from path to path."""
REACH = 0.7
"""Logarithm of the ratio of two sizes at which what one says of the other fades."""
NOISE, RESOLUTION = 0.05, 0.0004
"""What one measured time is off by: a share of it, and ms."""
LEAST = 0.25
"""The smallest factor: nothing takes less than this share of what the law says."""
SHORTEST = 0.0002
"""Ms that any work takes at least."""


@dataclass(frozen=True)
class Work:
    """Work at a place: `amounts` are what the law is linear in, `sizes` and `path`, which takes a few values, what the
    place's factor depends on."""

    place: str
    amounts: tuple[float, ...]
    sizes: tuple[float, ...]
    path: tuple[int, ...] = ()


@dataclass(frozen=True)
class Estimate:
    """Ms, and their standard deviation."""

    ms: float
    deviation: float

    def careful(self, caution: float) -> float:
        """Ms that a solver is to reckon with: where little is known it is not to hope for the best."""
        return self.ms + caution * self.deviation


@dataclass(frozen=True, eq=False)
class WorkLaw:
    """The law of one kind of work, fitted to `seen` (work, measured ms)."""

    seen: Sequence[tuple[Work, float]]

    @cached_property
    def rates(self) -> Floats:
        """(amounts,) Ms per amount, none of them negative: least squares of relative errors."""
        amounts, ms = np.array([work.amounts for work, _ in self.seen]), np.array([ms for _, ms in self.seen])
        rows = amounts / (ms + 5 * RESOLUTION)[:, None]
        scale = np.maximum(rows.max(axis=0), 1e-12)
        solution, _ = nnls(rows / scale, ms / (ms + 5 * RESOLUTION))
        return np.asarray(solution / scale, dtype=np.float64)

    @cached_property
    def _places(self) -> Mapping[str, "_Factor"]:
        pairs: dict[str, list[tuple[Work, float, float]]] = {}
        for work, ms in self.seen:
            lawful = self.lawful(work)
            pairs.setdefault(work.place, []).append((work, ms / lawful, lawful))
        return {place: _Factor.fitted(seen) for place, seen in pairs.items()}

    def left_out(self) -> list[float]:
        """Per measured time, in order, what the others at its place and the law say that it should have been, in ms."""
        waiting = {place: iter(factor.left_out()) for place, factor in self._places.items()}
        return [self.lawful(work) * max(next(waiting[work.place]), LEAST) for work, _ in self.seen]

    def lawful(self, work: Work) -> float:
        """Ms by the law alone."""
        return max(float(self.rates @ np.array(work.amounts)), SHORTEST)

    def estimate(self, work: Work) -> Estimate:
        """What the work takes at its place; at a place where nothing was measured, by the law alone."""
        lawful, place = self.lawful(work), self._places.get(work.place)
        factor, deviation = place.at(work) if place else (1.0, OFFSET)
        return Estimate(lawful * max(factor, LEAST), lawful * deviation)


@dataclass(frozen=True, eq=False)
class _Factor:
    """A place's factor: a Gaussian process over the logarithms of sizes, conditioned on what was measured."""

    works: Sequence[Work]
    factors: Floats
    inverse: Floats
    excess: Floats

    @classmethod
    def fitted(cls, seen: Sequence[tuple[Work, float, float]]) -> "_Factor":
        """From (work, measured factor, ms by the law)."""
        works = [work for work, _, _ in seen]
        factors, lawful = np.array([pair[1:] for pair in seen], dtype=np.float64).T
        noise = np.square(NOISE * np.maximum(factors, LEAST), dtype=np.float64) + np.square(RESOLUTION / lawful)
        inverse = np.linalg.inv(_likeness(works, works) + np.diag(noise))
        return cls(works, factors, np.asarray(inverse, dtype=np.float64), inverse @ (factors - 1))

    def left_out(self) -> Floats:
        """(seen,) The factor of each work as the others have it, in closed form."""
        return self.factors - self.excess / self.inverse.diagonal()

    def at(self, work: Work) -> tuple[float, float]:
        """The factor of this work, and its standard deviation."""
        likeness = _likeness([work], self.works)[0]
        left = OFFSET**2 + CURVE**2 + PATH**2 - likeness @ self.inverse @ likeness
        return float(1 + likeness @ self.excess), float(np.sqrt(max(left, 0.0)))


def _likeness(one: Sequence[Work], other: Sequence[Work]) -> Floats:
    """(one, other) Covariances of the factors of two lists of works at one place."""
    sizes = [np.log(np.array([work.sizes for work in works], dtype=np.float64)) for works in (one, other)]
    apart = np.square(sizes[0][:, None] - sizes[1][None]).sum(axis=-1) / REACH**2
    paths = np.array([[mine.path == theirs.path for theirs in other] for mine in one], dtype=np.float64)
    return np.asarray(OFFSET**2 + CURVE**2 * np.exp(-apart / 2) + PATH**2 * paths, dtype=np.float64)
