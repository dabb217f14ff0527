"""What a recipe says of the model: where it comes from, and its weights."""

import re
from typing import ClassVar, Self

from pydantic import Field, model_validator

from paredown.models.spec import Spec

LIBRARY = re.compile(r"(timm|torchvision)/[\w.\-]+")
FILE = re.compile(r".+\.py:[^\W\d]\w*")
MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
PACKAGED = re.compile(r"package:([^\W\d]\w*)/(.+)")
SUFFIXES = (".pth", ".pt", ".th", ".safetensors", ".ckpt", ".bin", ".pth.tar", ".tar")


class ModelSpec(Spec):
    """The model to pare down."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"weights_key"})

    source: str = Field(
        description="`timm/<name>`, `torchvision/<name>`, `path/to/file.py:factory` or `package.module:factory`: a "
        "function that returns the model and is given the number of classes if it takes it; paths start at the recipe, "
        "modules are looked for beside it, then in the environment"
    )
    weights: str | None = Field(
        default=None,
        description="`hub` (downloads the library's own pretrained weights), a .pth, .pt, .th, .ckpt, .bin, .pth.tar "
        "or .safetensors file, or `package:<module>/<path inside it>`; left out: as the factory made them",
    )
    weights_key: str | None = Field(
        default=None,
        description="where in the weights file the weights are, such as `state_dict` or `ema.model`, and after that "
        "the start of the names of those that count; left out: where there is one state_dict, that one, and of weights "
        "and their moving average (`state_dict_ema`) the average",
    )
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-fA-F]{8,64}$",
        description="digest of the weights file, or its first 8 or more hex digits; checked before loading",
    )
    output: str | int | None = Field(
        default=None,
        exclude_if=lambda output: output is None,
        description="which of several values that the model returns are the logits: a key of a dictionary, the name of "
        "an attribute (`logits`), or a place (`0`); left out: the only one, or the one called `logits`",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        library, weights = LIBRARY.fullmatch(self.source), self.weights
        if not library and not is_code(self.source):
            allowed = "timm/<name>, torchvision/<name>, path/to/file.py:factory or package.module:factory"
            raise ValueError(f"source '{self.source}': use {allowed}")
        if weights == "hub" and not library:
            raise ValueError("weights 'hub' go with timm/<name> and torchvision/<name> only")
        if weights not in (None, "hub") and not str(weights).endswith(SUFFIXES):
            raise ValueError(f"weights '{weights}': use hub or a file that ends in {', '.join(SUFFIXES)}")
        if self.sha256 and weights in (None, "hub"):
            raise ValueError("sha256 needs a weights file to check")
        if self.weights_key and weights in (None, "hub"):
            raise ValueError("weights_key needs a weights file to look into")
        return self


def is_code(source: str) -> bool:
    """Whether a source is a function in Python code of the user's."""
    return bool(FILE.fullmatch(source) or MODULE.fullmatch(source))
