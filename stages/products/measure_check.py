"""A measure against its limit."""

from dataclasses import dataclass


@dataclass(frozen=True)
class MeasureCheck:
    """One measure of the original (`before`) and of the artifact or plan (`after`), in `unit`; None is what was not
    measured or not limited.

    `limit` is absolute; `holds` is None where nothing is proved: no limit, or no artifact yet.
    """

    name: str
    unit: str
    before: float | None
    after: float | None
    limit: float | None
    holds: bool | None
