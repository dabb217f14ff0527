"""What a recipe says of the images: where they are, how they are split, and how the model wants them."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from paredown.models.data.framing import CropMode, Exif, Framing, Interpolation
from paredown.models.spec import Spec

Augment = Literal["none", "flip", "dihedral"]
Scale = Annotated[float, Field(gt=0)]
Channels = tuple[float, float, float]


class Splits(Spec):
    """The fractions of the images that each split gets; a split that the data comes with is kept as it is."""

    train: float = Field(default=0.55, gt=0, description="trains, where a stage trains")
    calibration: float = Field(default=0.05, gt=0, description="int8 ranges and sensitivities")
    validation: float = Field(default=0.15, gt=0, description="every choice is made on it")
    test: float = Field(default=0.25, gt=0, description="the proof; nothing is chosen on it")

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = self.train + self.calibration + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the four fractions add up to {total:.6g}; they must add up to 1")
        return self


def _names(written: Any) -> Any:
    """Numbers in a list of classes as text. Raises ValueError for what YAML took for something else than a name."""
    if not isinstance(written, list | tuple):
        return written
    for name in written:
        if not isinstance(name, str) and type(name) is not int:
            raise ValueError(f"the class {name!r} is no text to YAML; write the name in quotes")
    return tuple(map(str, written))


class DataSpec(Spec):
    """The images that the model must be good at."""

    ADDED: ClassVar[frozenset[str]] = frozenset({"classes", "crop_mode", "crop_pct", "interpolation", "exif"})

    source: str = Field(
        description="a folder with one folder per class, or with split folders that hold those: train/, test/ and "
        "perhaps val/ (other usual names are understood, see below); "
        "`path/to/file.py:function` or `package.module:function` that returns a torch dataset, or one per split's "
        "name; `path/to/file.npz` with images, labels and perhaps classes; `package:elpv_dataset`"
    )
    image_size: int = Field(ge=8, le=4096, description="side in pixels of the square that the model sees")
    mean: Channels = Field(
        default=(0.485, 0.456, 0.406), description="per channel, of pixels in 0..1, as the model was trained"
    )
    std: tuple[Scale, Scale, Scale] = Field(
        default=(0.229, 0.224, 0.225),
        description="as mean; a network that wants pixels in 0..255 has mean 0 and std 0.00392 (1/255)",
    )
    splits: Splits = Field(default=Splits(), description="fractions of the images")
    augment: Augment = Field(
        default="flip",
        description="of training images: `flip` mirrors left and right, `dihedral` takes all 8 symmetries; "
        "both shift by up to 1/16",
    )
    classes: Annotated[tuple[str, ...] | str | None, BeforeValidator(_names)] = Field(
        default=None,
        description="the classes in the order in which the model answers: a list, or the path of a file with one name "
        "per line, a JSON list or a mapping such as id2label; it may name classes without images; left out: folders in "
        "the order of text, otherwise the data's own order",
    )
    limit: int | None = Field(default=None, ge=1, description="use this many images, all classes in proportion")
    crop_mode: CropMode = Field(
        default="center",
        description="how an image becomes that square: `center` scales the short side and cuts the centre out, "
        "`squash` scales both sides whatever the image's shape, `border` scales the long side and pads with `mean`",
    )
    crop_pct: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="`image_size` over the length in pixels that is scaled to before the cut",
    )
    interpolation: Interpolation = Field(
        default="bilinear", description="with which Pillow scales; all but `nearest` are antialiased"
    )
    exif: Exif = Field(
        default="ignore",
        description="whether images are turned as their EXIF data say (`apply`), as OpenCV reads them; torchvision, "
        "timm and Pillow `ignore` it",
    )

    @property
    def framing(self) -> Framing:
        """How an image becomes the square."""
        return Framing(self.image_size, self.crop_mode, self.crop_pct, self.interpolation, self.mean, self.exif)

    @field_validator("mean", "std")
    @classmethod
    def _of_pixels_up_to_one(cls, values: Channels) -> Channels:
        if max(values) > 1:
            fixed = ", ".join(f"{value / 255:.3g}" for value in values)
            raise ValueError(
                f"{max(values):g} is over 1, and pixels are scaled to 0..1 first; where mean and std are of pixels in "
                f"0..255, divide both by 255: [{fixed}]"
            )
        if wrong := [value for value in values if not value >= 0]:
            raise ValueError(f"{wrong[0]:g} is not in 0..1, to which pixels are scaled first")
        return values
