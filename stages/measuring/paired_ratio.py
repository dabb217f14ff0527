"""Is one model slower than another, and how sure is that? Paired ratios from interleaved sessions, with a control.

A round opens two fresh sessions of each model and lets all four take turns. What the machine does to a round it does
to both models, so that only their ratio within a round counts; and two sessions of one model show what the machine
makes of equal things. Rounds are resampled, and the runs within their sessions (a hierarchical bootstrap).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paredown.stages.products.interval import CONFIDENCE, Interval
from paredown.stages.runtimes.base import Load, Runtime

__all__ = ["Interval", "PairedRatio", "Times", "rounds_of", "session_runs"]

DRAWS = 1000
"""Resamplings behind an interval: at 99 % each of its ends rests on the outermost five."""
AT_ONCE = 50
"""Resamplings in memory at a time."""
TRIMMED = 0.2
"""Share of the rounds left out at either end: under load a round is now and then far off."""
SESSION_MS = (40.0, 5, 20)
"""A session is timed for so long, within so many runs, with cold caches for the fewest: more sessions tell more than
longer ones."""

Times = NDArray[np.float64]
"""Milliseconds (round, session, run)."""


@dataclass(frozen=True)
class PairedRatio:
    """The ms of two models, `old` and `new`, each (round, session, run), taken in turns; its properties are ratios of
    them with their intervals. Every number is drawn with the same seed, so that equal times give equal intervals."""

    old: Times
    new: Times
    confidence: float = CONFIDENCE

    @classmethod
    def of_rounds(cls, rounds: Sequence[tuple[Times, Times]], confidence: float) -> "PairedRatio":
        """One sample of rounds as `rounds_of` gives them: the (session, run) ms of the old and of the new model."""
        return cls(np.stack([old for old, _ in rounds]), np.stack([new for _, new in rounds]), confidence)

    @property
    def rounds(self) -> int:
        return len(self.old)

    @property
    def runs(self) -> int:
        """Timed runs of each model."""
        return self.old.size

    @cached_property
    def p50(self) -> Interval:
        """Median of the new model's sessions over that of the old one's."""
        return self._interval(lambda old, new: _middle(_logs(new).mean(-1) - _logs(old).mean(-1)))

    @cached_property
    def control(self) -> Interval:
        """The same ratio between two sessions of one model, whose true value is 1. What the order of sessions does to
        both models, and it does a percent or two, cancels."""
        return self._interval(lambda old, new: _middle((_across(old) - _across(new)) / 2))

    @cached_property
    def p95(self) -> Interval:
        """Ratio of the 95th percentiles of all runs; it rests on the slowest twentieth of them."""
        return self._interval(lambda old, new: np.log(_quantile(new, 95) / _quantile(old, 95)))

    @cached_property
    def new_p50(self) -> Interval:
        """The new model's p50 in ms: that of the old one's runs, times the ratio, in which a machine that drifts
        cancels."""
        return self._wide_interval(
            lambda old, new: np.log(_quantile(old, 50)) + _middle(_logs(new).mean(-1) - _logs(old).mean(-1))
        )

    def absolute(self, quantile: int) -> Interval:
        """The new model's own quantile in ms, 50 or 95."""
        return self._wide_interval(lambda old, new: np.log(_quantile(new, quantile)))

    def _interval(self, statistic: Callable[[Times, Times], Times]) -> Interval:
        """Of a statistic of (draw, round, session, run) times, which gives logarithms (draw,)."""
        value, drawn = self._drawn(statistic)
        outside = 100 * (1 - self.confidence) / 2
        ends = np.percentile(drawn, [outside, 100 - outside])
        return Interval(*(float(np.exp(one)) for one in (value, *ends)))

    def _wide_interval(self, statistic: Callable[[Times, Times], Times]) -> Interval:
        """The same of a statistic that is no ratio, in which all is that the machine does from round to round.

        Draws of few rounds spread less than rounds do, and reach the slow ones too seldom: percentiles of draws held a
        p50 of five rounds 87 times of 100 instead of 95. So the ends are Student's, with one degree of freedom less
        than there are rounds, around the value without the draws' bias: 94 times.
        """
        from scipy.special import stdtrit

        value, drawn = self._drawn(statistic)
        reach = stdtrit(max(1, self.rounds - 1), (1 + self.confidence) / 2) * drawn.std()
        centre = 2 * value - drawn.mean()
        ends = min(value, centre - reach), max(value, centre + reach)
        return Interval(*(float(np.exp(one)) for one in (value, *ends)))

    def _drawn(self, statistic: Callable[[Times, Times], Times]) -> tuple[float, Times]:
        """The statistic of the times, and of as many resamplings as there are `DRAWS`."""
        rng = np.random.default_rng(0)
        drawn = [statistic(*self._resampled(rng, AT_ONCE)) for _ in range(DRAWS // AT_ONCE)]
        return float(statistic(self.old[None], self.new[None])[0]), np.concatenate(drawn)

    def _resampled(self, rng: np.random.Generator, draws: int) -> tuple[Times, Times]:
        """(draw, round, session, run) of both: rounds with replacement, and of their sessions' runs too."""
        picked = rng.integers(0, self.rounds, (draws, self.rounds))
        return _runs_drawn(self.old[picked], rng), _runs_drawn(self.new[picked], rng)


def _runs_drawn(times: Times, rng: np.random.Generator) -> Times:
    return np.take_along_axis(times, rng.integers(0, times.shape[-1], times.shape), -1)


def _logs(times: Times) -> Times:
    """Logarithm of every session's median."""
    return np.asarray(np.log(np.median(times, axis=-1)))


def _across(times: Times) -> Times:
    """Logarithm of a model's first session over its second, per round."""
    logs = _logs(times)
    return np.asarray(logs[..., 0] - logs[..., 1])


def _middle(values: Times) -> Times:
    """Mean over the last axis without its outer fifths."""
    cut, kept = int(TRIMMED * values.shape[-1]), np.sort(values, axis=-1)
    return np.asarray(kept[..., cut : values.shape[-1] - cut].mean(-1))


def _quantile(times: Times, quantile: int) -> Times:
    """The percentile `quantile` of the ms of all runs of all rounds, per draw."""
    return np.asarray(np.percentile(times.reshape(len(times), -1), quantile, axis=-1))


def rounds_of(runtime: Runtime, old: Path, new: Path, load: Load, seed: int = 0) -> Iterator[tuple[Times, Times]]:
    """Endless rounds, each with the times (session, run) of the old and of the new model.

    Which model's sessions are opened first and last alternates: the first session of a process can be a percent faster.
    """
    runs, number = SESSION_MS[1], 0
    while True:
        outer, inner = (old, new) if number % 2 == 0 else (new, old)
        times = runtime.latency([outer, inner, inner, outer], load, 1, runs, seed + number)
        a, b, c, d = (np.array(one[0]) for one in times)
        pairs = (np.stack([a, d]), np.stack([b, c]))
        if number:  # the first one only shows how long a run takes
            yield pairs if outer == old else (pairs[1], pairs[0])
        if number == 0 and load.caches == "hot":  # a cold run costs what is read before it, whatever the model
            runs = session_runs(float(np.median(pairs[0])))
        number += 1


def session_runs(milliseconds: float) -> int:
    """Timed runs of a session whose run takes so long."""
    wanted, least, most = SESSION_MS
    return int(np.clip(wanted / milliseconds, least, most))
