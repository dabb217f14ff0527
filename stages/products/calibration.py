"""subject.json: what was calibrated of the prepared model, and takes too long to find again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from paredown.models.compression.scales import Range
from paredown.models.network.layers import ChannelGroup
from paredown.stages.products.documents import (
    LEFT_OUT,
    damage_complaint,
    parse_dataclass,
    plain_data,
    read_object,
    write_document,
)


@dataclass(frozen=True)
class Calibration:
    """The ranges of values, every group's channels from the most important on (`order`), the groups, whether `blocks`
    can be replaced, and what the engine of int8 decided: the layers that it `refused`, and what it says of itself
    (`engine`). All of it was calibrated on so many `images`, those that the split of calibration gives first."""

    FILE: ClassVar[str] = "subject.json"

    ranges: Mapping[str, Range]
    order: Mapping[str, tuple[int, ...]]
    groups: tuple[ChannelGroup, ...]
    blocks: bool
    refused: tuple[str, ...]
    engine: Mapping[str, Any]
    images: int = field(default=0, metadata=LEFT_OUT)

    def save(self, folder: Path) -> None:
        document = plain_data(self)
        document["tuned"] = {"refused": document.pop("refused"), "told": document.pop("engine")}
        write_document(folder / self.FILE, document, indent=None)

    @classmethod
    def load(cls, folder: Path) -> Self:
        file = folder / cls.FILE
        document = read_object(file)
        tuned = parse_dataclass(dict[str, Any], document.get("tuned"), damage_complaint(file))
        return parse_dataclass(
            cls, {**document, "refused": tuned.get("refused"), "engine": tuned.get("told")}, damage_complaint(file)
        )
