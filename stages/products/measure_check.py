"""A measure against its limit."""

from dataclasses import dataclass, field

from paredown.stages.products.documents import LEFT_OUT
from paredown.stages.products.interval import Ends, Interval


@dataclass(frozen=True)
class MeasureCheck:
    """One measure of the original (`before`) and of the artifact or plan (`after`), in `unit`; None is what was not
    measured or not limited.

    `limit` is absolute; `holds` is None where nothing is proved: no limit, or no artifact yet. The ends are those of
    the intervals, `change` is the artifact over the original (of an accuracy their difference in points); an `exact`
    measure has none. `worst` is the end of the artifact's interval that is nearest to the limit, or beyond it: of a
    limit that is a factor it comes from the interval of the ratio. `remark` says what the limit's verdict rests on,
    where somebody should know it. Earlier versions had none of these.
    """

    name: str
    unit: str
    before: float | None
    after: float | None
    limit: float | None
    holds: bool | None
    before_ends: Ends | None = field(default=None, metadata=LEFT_OUT)
    after_ends: Ends | None = field(default=None, metadata=LEFT_OUT)
    change: Interval | None = field(default=None, metadata=LEFT_OUT)
    exact: bool = field(default=False, metadata=LEFT_OUT)
    worst: float | None = field(default=None, metadata=LEFT_OUT)
    remark: str = field(default="", metadata=LEFT_OUT)
