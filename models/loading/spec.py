"""What a recipe says of the model: where it comes from, and its weights."""

import re
from typing import Self

from pydantic import Field, model_validator

from paredown.models.spec import Spec

LIBRARY = re.compile(r"(timm|torchvision)/[\w.\-]+")
FILE = re.compile(r".+\.py:[^\W\d]\w*")
PACKAGED = re.compile(r"package:([^\W\d]\w*)/(.+)")
SUFFIXES = (".pth", ".pt", ".th", ".safetensors")


class ModelSpec(Spec):
    """The model to pare down."""

    source: str = Field(
        description="`timm/<name>`, `torchvision/<name>` or `path/to/file.py:factory`: a function that "
        "returns the model and is given the number of classes if it takes it; paths start at the recipe"
    )
    weights: str | None = Field(
        default=None,
        description="`hub` (downloads the library's own pretrained weights), a .pth, .pt, .th or "
        ".safetensors file, or `package:<module>/<path inside it>`; left out: as the factory made them",
    )
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-fA-F]{8,64}$",
        description="digest of the weights file, or its first 8 or more hex digits; checked before loading",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        library, weights = LIBRARY.fullmatch(self.source), self.weights
        if not library and not FILE.fullmatch(self.source):
            allowed = "timm/<name>, torchvision/<name> or path/to/file.py:factory"
            raise ValueError(f"source '{self.source}': use {allowed}")
        if weights == "hub" and not library:
            raise ValueError("weights 'hub' go with timm/<name> and torchvision/<name> only")
        if weights not in (None, "hub") and not str(weights).endswith(SUFFIXES):
            raise ValueError(f"weights '{weights}': use hub or a file that ends in {', '.join(SUFFIXES)}")
        if self.sha256 and weights in (None, "hub"):
            raise ValueError("sha256 needs a weights file to check")
        return self
