"""Whether a gate feeds a model as the model's file says that it wants to be fed."""

from pathlib import Path

from pydantic import ValidationError

from paredown.models.data.pixel_differences import pixel_differences
from paredown.models.data.spec import DataSpec
from paredown.models.errors import InputError
from paredown.models.onnx.checked_file import open_checked
from paredown.models.onnx.metadata import embedded_metadata
from paredown.stages.products.documents import parse_dataclass, plain_data
from paredown.stages.products.embedded import EmbeddedFacts

TOLD = ("crop_mode", "crop_pct", "interpolation", "exif", "mean", "std")


def input_difference(model: Path, data: DataSpec) -> str:
    """What an artifact says of its input that `data` has otherwise, in words; empty where nothing differs, and where
    the file says nothing that makes sense. Files of earlier versions tell mean and std only."""
    metadata = embedded_metadata(open_checked(model))
    try:
        facts = parse_dataclass(EmbeddedFacts, metadata, "") if metadata else None
        told = plain_data(facts.input) if facts and facts.input else {}
        given = {name: told[name] for name in TOLD if told.get(name) is not None}
        theirs = DataSpec.model_validate({**data.model_dump(), **given})
    except (InputError, ValidationError):
        return ""
    if differences := pixel_differences(theirs, data):
        had, has = differences
        return f"the file says that its input has {had}, data has {has}"
    return ""
