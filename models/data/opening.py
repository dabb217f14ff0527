"""Opens the data of a recipe: images are decoded and split on first use, and mapped from the cache from then on."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paredown.models.data.class_order import in_order, listed_classes, number_order_note
from paredown.models.data.dataset import ImageData, Split
from paredown.models.data.equal_images import equal_note, find_equal, load_equal, save_equal
from paredown.models.data.image_arrays import images_from_npz
from paredown.models.data.image_cache import fresh_folder, map_images, write_images
from paredown.models.data.image_facts import ImageTraits, read_facts, summarised, write_facts
from paredown.models.data.image_folders import images_from_elpv, images_from_folder
from paredown.models.data.sources import ImageSource
from paredown.models.data.spec import DataSpec
from paredown.models.data.splits import LabelledImages, assign_splits, split_shares, stratified
from paredown.models.errors import InputError
from paredown.models.files import resolve_path
from paredown.models.loading.spec import is_code
from paredown.models.progress import Progress, silent_progress

FORMAT = "1"
"""Changes whenever the same source would be decoded or split in another way."""


def open_data(spec: DataSpec, root: Path, cache: Path, seed: int, progress: Progress = silent_progress) -> ImageData:
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


def open_test_images(spec: DataSpec, root: Path, folder: Path, progress: Progress = silent_progress) -> ImageData:
    """Images as the split `test`: those of a source's own test split, or all where it has none; nothing else is there.

    They are decoded into `folder`. Raises as `open_data` does.
    """
    source, fingerprint = _identify(spec, root, 0)
    chosen = source.parts.get("test", source.parts["train"])
    decoded = _decode(source, chosen, spec, [], [], progress)
    write_images(folder / "test.npy", decoded, len(chosen), spec.image_size)
    test = Split(map_images(folder / "test.npy"), source.labels[chosen])
    none = Split(test.images[:0], test.labels[:0])
    return ImageData(
        train=none,
        calibration=none,
        validation=none,
        test=test,
        classes=source.classes,
        mean=spec.mean,
        std=spec.std,
        licence=source.licence,
        fingerprint=fingerprint,
        origins=source.origins,
        notes=source.notes,
    )


def fingerprint_data(spec: DataSpec, root: Path, seed: int) -> str:
    """sha256 over the spec, the seed, and the name, label and bytes of every image, in hex."""
    return _identify(spec, root, seed)[1]


def identify_data(spec: DataSpec, root: Path, seed: int) -> tuple[tuple[str, ...], str]:
    """The names of the classes, in order, and the fingerprint; the images are read once, and not decoded."""
    source, fingerprint = _identify(spec, root, seed)
    return tuple(source.classes), fingerprint


def _identify(spec: DataSpec, root: Path, seed: int) -> tuple[ImageSource, str]:
    """The images, not decoded yet, and their fingerprint. Raises InputError for what cannot be read."""
    try:
        source = _open(spec, root)
        parts = [FORMAT, spec.model_dump_json(), str(seed), *source.classes, source.digest()]
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from error
    return source, hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _open(spec: DataSpec, root: Path) -> ImageSource:
    """The images that a recipe names, their classes in the order that it says."""
    listed, where = listed_classes(spec.classes, root), f"data '{spec.source}'"
    images = _listed_images(spec.source, root, listed)
    if len(images.classes) < 2:
        raise InputError(f"{where}: one class only ({images.classes[0]}); a classifier needs two or more")
    return in_order(images, listed, where) if listed else images


def _listed_images(source: str, root: Path, listed: tuple[str, ...]) -> ImageSource:
    """The images of a source; `listed` are the classes that the recipe names, which folders may need."""
    if source == "package:elpv_dataset":
        return images_from_elpv()
    if source.startswith("package:"):
        raise InputError(f"data '{source}': the only data package known is package:elpv_dataset")
    if ".py:" in source or (is_code(source) and not resolve_path(source, root).exists()):
        from paredown.models.data.user_datasets import from_function

        return from_function(source, root)
    path = resolve_path(source, root)
    if path.suffix == ".npz":
        return images_from_npz(path)
    images = images_from_folder(path, listed)
    return images if listed else replace(images, notes=(*images.notes, *number_order_note(images.classes)))


def _fill(folder: Path, spec: DataSpec, source: ImageSource, seed: int, progress: Progress) -> None:
    """Decodes every image once into `folder`, then writes them again split by split."""
    rng = np.random.default_rng([seed, len(source.labels)])
    parts = _limited(source, spec.limit, rng)
    chosen = np.concatenate(list(parts.values()))
    contents: list[bytes] = []
    traits: list[ImageTraits] = []
    decoded = _decode(source, chosen, spec, contents, traits, progress)
    write_images(folder / "all.npy", decoded, len(chosen), spec.image_size)
    write_facts(summarised(traits, spec.framing), folder)
    ends = np.cumsum([len(part) for part in parts.values()])
    places = dict(zip(parts, np.split(np.arange(len(chosen)), ends[:-1]), strict=True))
    where = f"data '{spec.source}'"
    labelled = LabelledImages(source.labels[chosen], contents, source.classes, where, source.unseen)
    splits = assign_splits(places, labelled, spec.splits.model_dump(), rng)
    save_equal(list(find_equal(places, labelled.labels, contents)), chosen, folder)
    images = map_images(folder / "all.npy")
    for name, picked in splits.items():
        write_images(folder / f"{name}.npy", (images[i] for i in picked), len(picked), spec.image_size)
        np.save(folder / f"{name}-labels.npy", labelled.labels[picked])
    np.save(folder / "dropped.npy", len(chosen) - sum(map(len, splits.values())))
    del images
    (folder / "all.npy").unlink()


def _load(folder: Path, spec: DataSpec, source: ImageSource) -> ImageData:
    def split(name: str) -> Split:
        return Split(map_images(folder / f"{name}.npy"), np.load(folder / f"{name}-labels.npy"))

    return ImageData(
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
        facts=read_facts(folder),
        dropped=int(np.load(folder / "dropped.npy")),
        origins=source.origins,
        notes=(*source.notes, *(equal_note(found, source.name) for found in load_equal(folder))),
    )


def _limited(source: ImageSource, limit: int | None, rng: np.random.Generator) -> dict[str, NDArray[np.int64]]:
    """Of every part that the data comes with the positions that are used, in proportion where there is a limit."""
    total = len(source.labels)
    sizes = [len(part) for part in source.parts.values()]
    wanted = split_shares(min(limit or total, total), sizes)
    return {
        name: part[stratified(source.labels[part], n, rng)]
        for (name, part), n in zip(source.parts.items(), wanted.tolist(), strict=True)
    }


def _decode(
    source: ImageSource,
    chosen: NDArray[np.int64],
    spec: DataSpec,
    contents: list[bytes],
    traits: list[ImageTraits],
    progress: Progress,
) -> Iterator[NDArray[np.uint8]]:
    """The chosen images in order; a digest of each goes into `contents`, what it was into `traits`."""
    for done, position in enumerate(chosen.tolist()):
        if done % 100 == 0:
            progress("decoding images", done, len(chosen))
        image, what = source.pixels(position, spec.framing)
        traits.append(what)
        contents.append(hashlib.sha256(image.tobytes()).digest())
        yield image
    progress("decoding images", len(chosen), len(chosen))
