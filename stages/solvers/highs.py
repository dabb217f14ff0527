"""The call into HiGHS: one mixed-integer program in, its best answer and how far that is proved out."""

import contextlib
import ctypes
import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import csr_array, hstack, vstack

from paredown.stages.solvers.linear_program import Flags, Floats, LinearProgram


@dataclass(frozen=True)
class ConstraintRows:
    """matrix @ v <= upper + the slack variable number `slack`, where there is one."""

    matrix: Floats
    upper: Floats
    slack: int | None = None


@dataclass(frozen=True)
class LimitSlack:
    """Variables added to a program: their weights in the objective, their lower bound, and the number of the
    one that is at least as large as all others, where there is one."""

    weights: tuple[float, ...] = ()
    lower: float = 0.0
    largest: int | None = None


NO_SLACK = LimitSlack()
_OUT_OF_TIME = 1
"""scipy's status of a run that its time limit ended."""
_SLIGHT = 1e-6
"""The violation that HiGHS allows itself."""


@dataclass(frozen=True)
class HighsAnswer:
    """The best v found (None: none found), its objective, and the objective that no v can go under."""

    values: Floats | None
    objective: float = math.inf
    bound: float = -math.inf

    @property
    def gap(self) -> float:
        """The relative optimality gap; infinite where nothing is proved."""
        distance = self.objective - self.bound
        if distance <= 0:
            return 0.0
        return distance / abs(self.objective) if self.objective and math.isfinite(distance) else math.inf


@dataclass(frozen=True)
class _Program:
    """Minimise weights @ v; `always` holds from the start, row i of matrix @ v <= upper once it is active."""

    weights: Floats
    whole: Floats
    bounds: Bounds
    always: list[LinearConstraint]
    matrix: csr_array
    upper: Floats
    first: Flags

    def run(self, active: Flags, whole: bool, gap: float, seconds: float) -> OptimizeResult:
        """The program with its active rows; not `whole`: its linear relaxation."""
        rows = [LinearConstraint(self.matrix[active], -np.inf, self.upper[active])] if active.any() else []
        with silenced_stdout():
            return milp(
                self.weights,
                integrality=self.whole * whole,
                bounds=self.bounds,
                constraints=[*self.always, *rows],
                options={"mip_rel_gap": gap, "time_limit": max(seconds, 0.0)},
            )


def minimise_program(
    linear: LinearProgram,
    objective: Floats,
    rows: list[ConstraintRows],
    gap: float,
    seconds: float,
    slack: LimitSlack = NO_SLACK,
) -> HighsAnswer:
    """Minimise `objective` (n,) plus the weighted slack under the program's rows and these.

    Of many rows few bind, and all of them together are slow. So each block starts with its first row, and
    rows that an answer violates join: first on the linear relaxation, then on the program itself. When
    `seconds` are over the answer may still violate some; its bound holds.
    """
    stop = time.monotonic() + seconds
    program = _program(linear, objective, rows, slack)
    active, answer = program.first, HighsAnswer(None)
    for whole in (False, True):
        while True:
            result = program.run(active, whole, gap, stop - time.monotonic())
            if result.x is None:
                return answer if result.status == _OUT_OF_TIME else HighsAnswer(None)
            answer = _answer(result) if whole else answer
            joining = (program.matrix @ result.x > program.upper + _SLIGHT) & ~active
            if not joining.any():
                break
            active = active | joining
    return answer


def _program(linear: LinearProgram, objective: Floats, rows: list[ConstraintRows], slack: LimitSlack) -> _Program:
    size, extra = objective.size, len(slack.weights)
    structure = _padded(linear.matrix, np.zeros((linear.lower.size, extra)))
    blocks = [_padded(csr_array(block.matrix), _signs(block, extra)) for block in rows]
    return _Program(
        weights=np.concatenate([objective, slack.weights]),
        # Whole x make whole z; saying so lets HiGHS cut on z, which is several times faster on tight problems.
        whole=np.repeat([1.0, 0.0], [size, extra]),
        bounds=Bounds(np.repeat([0.0, slack.lower], [size, extra]), np.repeat([1.0, np.inf], [size, extra])),
        always=[LinearConstraint(structure, linear.lower, linear.upper), *_largest(slack, size)],
        matrix=vstack([csr_array((0, size + extra)), *blocks], format="csr"),
        upper=np.concatenate([np.zeros(0), *(block.upper for block in rows)]),
        first=np.concatenate([np.zeros(0, np.bool_), *(np.arange(block.upper.size) == 0 for block in rows)]),
    )


def _padded(matrix: csr_array, extra: Floats) -> csr_array:
    return hstack([matrix, csr_array(extra)], format="csr")


def _signs(rows: ConstraintRows, extra: int) -> Floats:
    """(rows, extra) -1 in the column of the block's slack variable."""
    signs = np.zeros((rows.upper.size, extra))
    if rows.slack is not None:
        signs[:, rows.slack] = -1.0
    return signs


def _largest(slack: LimitSlack, size: int) -> list[LinearConstraint]:
    """Every other slack variable minus the largest one is at most 0."""
    if slack.largest is None:
        return []
    difference = np.eye(len(slack.weights))
    difference[:, slack.largest] -= 1.0
    return [LinearConstraint(_padded(csr_array((len(difference), size)), difference), -np.inf, 0.0)]


def _answer(result: OptimizeResult) -> HighsAnswer:
    bound = result.mip_dual_bound
    return HighsAnswer(result.x, float(result.fun), -math.inf if bound is None else float(bound))


@contextlib.contextmanager
def silenced_stdout() -> Iterator[None]:
    """Send what C code prints to the standard output nowhere: HiGHS prints even with its display off."""
    if sys.stdout is not None:
        sys.stdout.flush()
    try:
        saved = os.dup(1)
    except OSError:  # There is no standard output to keep clean.
        saved = -1
    try:
        if saved >= 0:
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        if saved >= 0:
            _flush_c()
            os.dup2(saved, 1)
            os.close(saved)


def _flush_c() -> None:
    """Empty the C library's own buffer, which would else come out after the redirection ends."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None if os.name == "posix" else "ucrtbase").fflush(None)
