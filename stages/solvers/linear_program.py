"""The search problem as a mixed-integer linear program: matrices, without a solver.

Columns are one 0/1 variable x per (site, candidate), then one variable z per combination of every factor.
With x at 0 or 1 the rows leave exactly one value for z, whatever the sign of its costs: z is 1 at the picked
combination of a factor whose sites all exist, and 0 elsewhere. Where all sites exist, the rows are those of
the local polytope of a graphical model (Wainwright & Jordan 2008, Graphical Models, Exponential Families, and
Variational Inference, section 4.1).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from paredown.stages.solvers.problem import (
    BorderCharge,
    CostFactor,
    Costs,
    Pick,
    Problem,
    Site,
    Term,
    cost_names,
    owners_first,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class LinearProgram:
    """Minimise over v in [0, 1]^n, the first len(column) entries integer, with lower <= matrix @ v <= upper.

    `costs` (budgets, n) and `fixed` (budgets,) give every budget's cost, `loss` (n,) the loss. At most one
    column of a group is 1, exactly one where the group is `required`; group i starts at column `groups[i]`.
    """

    column: Mapping[Pick, int]
    matrix: csr_array
    lower: Floats
    upper: Floats
    loss: Floats
    cost_names: tuple[str, ...]
    costs: Floats
    fixed: Floats
    groups: Ints
    required: Flags

    def ceiling(self, rows: Floats) -> Floats:
        """An upper bound (k,) on rows (k, n) @ v over all plans: the largest entry of every group, summed."""
        best: Floats = np.maximum.reduceat(rows, self.groups, axis=1)
        return np.asarray(np.where(self.required, best, np.maximum(best, 0.0)).sum(axis=1))


@dataclass(frozen=True)
class _Row:
    columns: Ints
    values: Floats
    lower: float
    upper: float


@dataclass(frozen=True)
class _Part:
    """The columns of a factor or charge: `table` (budgets, classes of site 1, of site 2, ...) starts at column `first`.

    `labels[i]` gives the class of each candidate of its i-th site; `when` are a charge's occasions, None for a factor.
    """

    sites: tuple[Site, ...]
    names: tuple[str, ...]
    table: Floats
    labels: tuple[Ints, ...]
    first: int
    when: tuple[tuple[Term, ...], ...] | None = None

    @property
    def numbers(self) -> Ints:
        """The columns, in the shape of the table of one budget."""
        return self.first + np.arange(self.table[0].size).reshape(self.table.shape[1:])

    def classes(self, axis: int) -> Iterator[tuple[Ints, list[Pick]]]:
        """The columns of every class of a site's candidates, and these."""
        for label in range(self.numbers.shape[axis]):
            members = np.flatnonzero(self.labels[axis] == label)
            site = self.sites[axis]
            yield (
                np.take(self.numbers, label, axis=axis).ravel(),
                [(site.name, site.candidates[i].name) for i in members],
            )


def linearise(problem: Problem) -> LinearProgram:
    """The matrices of a valid problem."""
    pairs = [(site.name, candidate.name) for site in problem.sites for candidate in site.candidates]
    column = {pair: number for number, pair in enumerate(pairs)}
    parts = _parts(problem, len(pairs))
    size = len(pairs) + sum(part.table[0].size for part in parts)
    above = _ancestors(problem)
    rows = [_site_row(site, column) for site in problem.sites]
    rows += [row for site in problem.sites for row in _need_rows(site, column)]
    owners = {site.name: site.owner for site in problem.sites}
    for part in parts:
        rows += _factor_rows(part, column, above) if part.when is None else _charge_rows(part, column, owners)
    names = cost_names(problem)
    loss = np.zeros(size)
    loss[: len(pairs)] = [candidate.loss for site in problem.sites for candidate in site.candidates]
    starts = [column[site.name, site.candidates[0].name] for site in problem.sites]
    needs = [above[site.name] for site in problem.sites]
    needs += [_union(above[site.name] for site in part.sites) for part in parts]
    certain = [True] * len(problem.sites) + [part.when is None for part in parts]
    return LinearProgram(
        column=column,
        matrix=_matrix(rows, size),
        lower=np.array([row.lower for row in rows]),
        upper=np.array([row.upper for row in rows]),
        loss=loss,
        cost_names=names,
        costs=_costs(problem, parts, names, column, size),
        fixed=np.array([problem.fixed.get(name, 0.0) for name in names]),
        groups=np.array([*starts, *(part.first for part in parts)], dtype=np.int64),
        required=np.array([sure and not need for sure, need in zip(certain, needs, strict=True)], dtype=np.bool_),
    )


def _ancestors(problem: Problem) -> dict[str, frozenset[Pick]]:
    """Per site, all picks that it needs to exist."""
    above: dict[str, frozenset[Pick]] = {}
    for site in owners_first(problem):
        above[site.name] = above[site.owner[0]] | {site.owner} if site.owner else frozenset()
    return above


def _union(sets: Iterable[frozenset[Pick]]) -> frozenset[Pick]:
    return reduce(frozenset.union, sets, frozenset())


def _parts(problem: Problem, first: int) -> list[_Part]:
    sites = {site.name: site for site in problem.sites}
    parts: list[_Part] = []
    listed: tuple[CostFactor | BorderCharge, ...] = (*problem.factors, *problem.charges)
    for one in listed:
        names = tuple(sorted({name for costs in one.table.values() for name in costs}))
        table, labels = _merged(_dense(one, [sites[name] for name in one.sites], names))
        if table.any():
            when = one.when if isinstance(one, BorderCharge) else None
            parts.append(_Part(tuple(sites[name] for name in one.sites), names, table, labels, first, when))
            first += table[0].size
    return parts


def _dense(factor: CostFactor | BorderCharge, sites: list[Site], names: tuple[str, ...]) -> Floats:
    """(budgets, candidates of site 1, candidates of site 2, ...)"""
    position = [{candidate.name: i for i, candidate in enumerate(site.candidates)} for site in sites]
    table = np.zeros((len(names), *(len(site.candidates) for site in sites)))
    for combination, costs in factor.table.items():
        at: list[slice | int] = [where[name] for where, name in zip(position, combination, strict=True)]
        table[(slice(None), *at)] = [costs.get(name, 0.0) for name in names]
    return table


def _merged(table: Floats) -> tuple[Floats, tuple[Ints, ...]]:
    """One class for candidates that a factor cannot tell apart: far fewer columns, the same program."""
    labels = []
    for axis in range(1, table.ndim):
        slices = [np.take(table, i, axis=axis).tobytes() for i in range(table.shape[axis])]
        kept = sorted({slices.index(piece) for piece in slices})
        labels.append(np.array([kept.index(slices.index(piece)) for piece in slices], dtype=np.int64))
        table = np.take(table, kept, axis=axis)
    return table, tuple(labels)


def _site_row(site: Site, column: Mapping[Pick, int]) -> _Row:
    """Exactly one candidate where the site exists, none elsewhere."""
    own = [column[site.name, candidate.name] for candidate in site.candidates]
    if site.owner is None:
        return _row(own, [], 1.0, 1.0)
    return _row(own, [column[site.owner]], 0.0, 0.0)


def _need_rows(site: Site, column: Mapping[Pick, int]) -> Iterator[_Row]:
    """No candidate without one of the picks that it needs."""
    for candidate in site.candidates:
        if candidate.needs:
            yield _row([column[site.name, candidate.name]], [column[need] for need in candidate.needs], -np.inf, 0.0)


def _factor_rows(part: _Part, column: Mapping[Pick, int], above: Mapping[str, frozenset[Pick]]) -> Iterator[_Row]:
    needs = _union(above[site.name] for site in part.sites)
    for axis, site in enumerate(part.sites):
        # A site that exists exactly when the factor does marginalises to x; another one may exist alone.
        lower = 0.0 if above[site.name] == needs else -np.inf
        for numbers, members in part.classes(axis):
            yield _row(numbers, [column[pick] for pick in members], lower, 0.0)
    if all(above[site.name] != needs for site in part.sites):
        # No site stands for the factor's existence: all picks it needs together force one combination.
        deepest = needs - _union(above[site] for site, _ in needs)
        yield _row(part.numbers.ravel(), [column[need] for need in sorted(deepest)], 1.0 - len(deepest), np.inf)


def _charge_rows(part: _Part, column: Mapping[Pick, int], owners: Mapping[str, Pick | None]) -> Iterator[_Row]:
    """The charge's columns sum to 1 where an occasion comes true, and only those of the picked candidates can be 1."""
    for axis in range(len(part.sites)):
        for numbers, members in part.classes(axis):
            yield _row(numbers, [column[pick] for pick in members], -np.inf, 0.0)
    for occasion in part.when or ():
        picks, spare = [column[pick] for term in occasion for pick in term], len(occasion) - 1
        around = {owners[site] for term in occasion for site, _ in term}
        owner = next(iter(around)) if len(around) == 1 else None
        if owner is None:
            yield _row(part.numbers.ravel(), picks, -float(spare), np.inf)
        else:  # All inside of one candidate: without it none of the picks is there, which makes the bound tighter.
            yield _row([*part.numbers.ravel(), *[column[owner]] * spare], picks, 0.0, np.inf)


def _row(plus: Iterable[int], minus: Iterable[int], lower: float, upper: float) -> _Row:
    positive, negative = np.array([*plus], dtype=np.int64), np.array([*minus], dtype=np.int64)
    values = np.concatenate([np.ones(positive.size), -np.ones(negative.size)])
    return _Row(np.concatenate([positive, negative]), values, lower, upper)


def _matrix(rows: list[_Row], size: int) -> csr_array:
    ends = np.cumsum([0, *(row.columns.size for row in rows)])
    columns = np.concatenate([np.zeros(0, dtype=np.int64), *(row.columns for row in rows)])
    values = np.concatenate([np.zeros(0), *(row.values for row in rows)])
    matrix = csr_array((values, columns, ends), shape=(len(rows), size))
    matrix.sum_duplicates()  # HiGHS takes no column twice.
    return matrix


def _costs(
    problem: Problem, parts: list[_Part], names: tuple[str, ...], column: Mapping[Pick, int], size: int
) -> Floats:
    row = {name: number for number, name in enumerate(names)}
    costs = np.zeros((len(names), size))
    unary: Iterator[tuple[int, Costs]] = (
        (column[site.name, candidate.name], candidate.costs) for site in problem.sites for candidate in site.candidates
    )
    for at, values in unary:
        for name, value in values.items():
            costs[row[name], at] = value
    for part in parts:
        block = part.table.reshape(len(part.names), -1)
        costs[[row[name] for name in part.names], part.first : part.first + block.shape[1]] = block
    return costs
