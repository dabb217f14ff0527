"""Labelled images: decoded once, split once, read many times."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from paredown.models.data.augment import augment
from paredown.models.data.image_cache import fresh_folder, map_images, write_images
from paredown.models.data.sources import Source, from_elpv, from_folder, from_npz
from paredown.models.data.splits import LabelledImages, assign, shares, stratified
from paredown.models.errors import InputError
from paredown.models.files import resolve
from paredown.models.progress import Progress
from paredown.models.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

Augment = Literal["none", "flip", "dihedral"]
Scale = Annotated[float, Field(gt=0)]

FORMAT = "1"
"""Changes whenever the same source would be decoded or split in another way."""


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


class DataSpec(Spec):
    """The images that the model must be good at."""

    source: str = Field(
        description="a folder with one folder per class, or with train/ and test/ (or val/) that hold those; "
        "`path/to/file.py:function` that returns a torch dataset, or one per split's name; "
        "`path/to/file.npz` with images, labels and perhaps classes; `package:elpv_dataset`"
    )
    image_size: int = Field(ge=8, le=4096, description="side in pixels of the square that the model sees")
    mean: tuple[float, float, float] = Field(
        default=(0.485, 0.456, 0.406), description="per channel, of pixels in 0..1, as the model was trained"
    )
    std: tuple[Scale, Scale, Scale] = Field(default=(0.229, 0.224, 0.225), description="as mean")
    splits: Splits = Field(default=Splits(), description="fractions of the images")
    augment: Augment = Field(
        default="flip",
        description="of training images: `flip` mirrors left and right, `dihedral` takes all 8 symmetries; "
        "both shift by up to 1/16",
    )
    limit: int | None = Field(default=None, ge=1, description="use this many images, all classes in proportion")


@dataclass(frozen=True)
class Split:
    """`images` (N, H, W, 3) uint8, perhaps a read-only file mapping, and `labels` (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """sha256 over the pixels, as they were decoded, and the labels."""
        total = hashlib.sha256(repr(self.images.shape).encode())
        for start in range(0, len(self), 256):  # a mapped file is not read into memory as a whole
            total.update(self.images[start : start + 256].tobytes())
        total.update(self.labels.tobytes())
        return total.hexdigest()

    def take(self, n: int, seed: int) -> "Split":
        """`n` images (all, if there are fewer) in the same order, with every class in proportion."""
        picked = stratified(self.labels, n, np.random.default_rng(seed))
        return Split(np.asarray(self.images[picked]), self.labels[picked])


@dataclass(frozen=True)
class Data:
    """The four splits, and how the model wants its images.

    `dropped` images were left out because another split holds the same one. `fingerprint` covers the
    contents, the spec and the seed.
    """

    train: Split
    calibration: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str
    fingerprint: str
    augment: Augment = "none"
    dropped: int = 0

    def normalise(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, 3) pixels as the model's input (N, 3, H, W)."""
        return self._scale(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), (3, 1, 1))

    def batches(self, split: Split, size: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        """All images of a split in order, as (normalised images, labels); the last batch may be smaller."""
        for start in range(0, len(split), size):
            yield self.normalise(split.images[start : start + size]), split.labels[start : start + size]

    def training_batches(
        self, size: int, epoch: int, seed: int, rank: int = 0, world: int = 1
    ) -> "Iterator[tuple[Tensor, Tensor, Tensor]]":
        """One epoch of (images (N, 3, H, W) in channels_last memory, labels, positions in `train`).

        Shuffled and augmented; the same arguments give the same batches. Each of `world` ranks gets its own
        equal share. The last batch of a share is left out if it is not full, unless it is the only one.
        """
        import torch

        order = np.random.default_rng([seed, epoch]).permutation(len(self.train))
        share = order[rank::world][: len(order) // world]
        for start in range(0, max(len(share) - size, 0) + 1, size):
            picked = share[start : start + size]
            rng = np.random.default_rng([seed, epoch, rank, world, start])
            images = self._scale(augment(np.asarray(self.train.images[picked]), self.augment, rng), (3,))
            labels = torch.from_numpy(self.train.labels[picked])
            yield torch.from_numpy(images).permute(0, 3, 1, 2), labels, torch.from_numpy(picked)

    def _scale(self, images: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.float32]:
        """`shape` is where the channels stand, for broadcasting."""
        std = np.array(self.std)
        factor = (1 / (255 * std)).astype(np.float32).reshape(shape)
        scaled: NDArray[np.float32] = np.multiply(images, factor, dtype=np.float32)
        scaled -= (np.array(self.mean) / std).astype(np.float32).reshape(shape)
        return scaled


def open_data(
    spec: DataSpec, root: Path, cache: Path, seed: int, progress: Progress = lambda text, done, total: None
) -> Data:
    """The data of a recipe in the folder `root`: decoded and split on first use, then mapped from `cache`.

    Raises InputError that names the path for everything that cannot be used, MissingError where a data
    package is not installed, MachineError where `cache` cannot be written.
    """
    source, fingerprint = _identify(spec, root, seed)
    folder = cache / fingerprint
    if not folder.is_dir():
        with fresh_folder(folder) as temporary:
            _fill(temporary, spec, source, seed, progress)
    return _load(folder, spec, source)


def fingerprint_data(spec: DataSpec, root: Path, seed: int) -> str:
    """sha256 over the spec, the seed, and the name, label and bytes of every image, in hex."""
    return _identify(spec, root, seed)[1]


def _identify(spec: DataSpec, root: Path, seed: int) -> tuple[Source, str]:
    try:
        source = _open(spec.source, root)
        parts = [FORMAT, spec.model_dump_json(), str(seed), *source.classes, source.digest()]
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from error
    return source, hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _open(source: str, root: Path) -> Source:
    if source == "package:elpv_dataset":
        return from_elpv()
    if source.startswith("package:"):
        raise InputError(f"data '{source}': the only data package known is package:elpv_dataset")
    if ".py:" in source:
        from paredown.models.data.user_datasets import from_function

        found = from_function(source, root)
    else:
        path = resolve(source, root)
        found = from_npz(path) if path.suffix == ".npz" else from_folder(path)
    if len(found.classes) < 2:
        raise InputError(f"data '{source}': one class only ({found.classes[0]}); a classifier needs two or more")
    return found


def _fill(folder: Path, spec: DataSpec, source: Source, seed: int, progress: Progress) -> None:
    """Decodes every image once into `folder`, then writes them again split by split."""
    rng = np.random.default_rng([seed, len(source.labels)])
    parts = _limited(source, spec.limit, rng)
    chosen = np.concatenate(list(parts.values()))
    contents: list[bytes] = []
    write_images(folder / "all.npy", _decode(source, chosen, spec, contents, progress), len(chosen), spec.image_size)
    ends = np.cumsum([len(part) for part in parts.values()])
    places = dict(zip(parts, np.split(np.arange(len(chosen)), ends[:-1]), strict=True))
    labelled = LabelledImages(source.labels[chosen], contents, source.classes, f"data '{spec.source}'")
    splits = assign(places, labelled, spec.splits.model_dump(), rng)
    images = map_images(folder / "all.npy")
    for name, picked in splits.items():
        write_images(folder / f"{name}.npy", (images[i] for i in picked), len(picked), spec.image_size)
        np.save(folder / f"{name}-labels.npy", labelled.labels[picked])
    np.save(folder / "dropped.npy", len(chosen) - sum(map(len, splits.values())))
    del images
    (folder / "all.npy").unlink()


def _load(folder: Path, spec: DataSpec, source: Source) -> Data:
    def split(name: str) -> Split:
        return Split(map_images(folder / f"{name}.npy"), np.load(folder / f"{name}-labels.npy"))

    return Data(
        train=split("train"),
        calibration=split("calibration"),
        validation=split("validation"),
        test=split("test"),
        classes=source.classes,
        mean=spec.mean,
        std=spec.std,
        licence=source.licence,
        fingerprint=folder.name,
        augment=spec.augment,
        dropped=int(np.load(folder / "dropped.npy")),
    )


def _limited(source: Source, limit: int | None, rng: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    total = len(source.labels)
    sizes = [len(part) for part in source.parts.values()]
    wanted = shares(min(limit or total, total), sizes)
    return {
        name: part[stratified(source.labels[part], n, rng)]
        for (name, part), n in zip(source.parts.items(), wanted.tolist(), strict=True)
    }


def _decode(
    source: Source, chosen: NDArray[np.int64], spec: DataSpec, contents: list[bytes], progress: Progress
) -> Iterator[NDArray[np.uint8]]:
    """The chosen images in order; a digest of each goes into `contents`."""
    for done, position in enumerate(chosen.tolist()):
        if done % 100 == 0:
            progress("decoding images", done, len(chosen))
        image = source.pixels(position, spec.image_size)
        contents.append(hashlib.sha256(image.tobytes()).digest())
        yield image
    progress("decoding images", len(chosen), len(chosen))
