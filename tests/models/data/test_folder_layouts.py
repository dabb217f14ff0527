"""Trees of folders: which are understood, and which are refused with what was seen."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paredown.models.data.dataset import ImageData
from paredown.models.data.opening import fingerprint_data, open_data
from paredown.models.data.spec import DataSpec
from paredown.models.errors import InputError

OpenSource = Callable[..., ImageData]
RefusalOf = Callable[[Path, str], str]

PETS = ("cat", "dog")


def _image(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8))


def _fill(root: Path, *folders: str, each: int = 6) -> None:
    """`each` images of their own in every folder."""
    for folder in folders:
        path = root / "images" / folder
        path.mkdir(parents=True, exist_ok=True)
        for i in range(each):
            _image(len(list((root / "images").rglob("*.png")))).save(path / f"{i}.png")


def _splits(*names: str, classes: Iterable[str] = PETS) -> list[str]:
    return [f"{name}/{kind}" for name in names for kind in classes]


@pytest.mark.parametrize(
    ("names", "origins", "sizes"),
    [
        (("train", "test"), {"train": "train", "test": "test"}, {"test": 12}),
        (("train", "valid"), {"train": "train", "test": "valid"}, {"test": 12}),
        (("train", "validation"), {"train": "train", "test": "validation"}, {"test": 12}),
        (("Training", "Testing"), {"train": "Training", "test": "Testing"}, {"test": 12}),
        (("TRAIN", "Dev", "eval"), {"train": "TRAIN", "validation": "Dev", "test": "eval"}, {"validation": 12}),
        (
            ("train", "valid", "test", "calib"),
            {"train": "train", "validation": "valid", "test": "test", "calibration": "calib"},
            {"train": 12, "calibration": 12, "validation": 12, "test": 12},
        ),
        (("train",), {"train": "train"}, {}),
    ],
)
def test_split_folders_have_their_usual_names(
    tmp_path: Path, names: tuple[str, ...], origins: dict[str, str], sizes: dict[str, int], open_source: OpenSource
) -> None:
    _fill(tmp_path, *_splits(*names))
    data = open_source(tmp_path, "images")
    assert data.classes == PETS
    assert data.origins == {split: f"the folder {name}" for split, name in origins.items()}
    assert {split: len(data.splits[split]) for split in sizes} == sizes
    assert sum(map(len, data.splits.values())) == 12 * len(names)
    assert data.notes == ()


def test_images_stay_in_the_split_of_their_folder(tmp_path: Path, open_source: OpenSource) -> None:
    _fill(tmp_path, *_splits("Training", "valid", "test"))
    data = open_source(tmp_path, "images")
    for split, folder in (("test", "test"), ("validation", "valid")):
        for label, kind in enumerate(PETS):
            files = (tmp_path / "images" / folder / kind).iterdir()
            wanted = {np.asarray(Image.open(file)).tobytes() for file in files}
            here = data.splits[split]
            assert {image.tobytes() for image in here.images[here.labels == label]} == wanted


@pytest.mark.parametrize(
    ("folders", "texts"),
    [
        (_splits("train", "val", "valid"), ["val and valid both mean the split 'validation'"]),
        (_splits("train", "Train"), ["Train and train both mean the split 'train'"]),
        (_splits("train", "val", "holdout"), ["got the folders holdout, train, val", "'holdout' means no split"]),
        (_splits("train", "extra"), ["'extra' means no split", "train, training; calibration, calib; val, valid"]),
        ([*_splits("train", "test"), "unlabelled"], ["'unlabelled' means no split"]),
        (_splits("test", "val"), ["got test, val, and none that means train"]),
        (["train", "test"], ["images/test: holds images and no class folders"]),
        ([*_splits("train"), "test"], ["images/test: holds images and no class folders"]),
        ([*_splits("train"), "test/cat", "test/ant"], ["class 'ant' is not in train (cat, dog"]),
        (_splits("images/train", "images/test"), ["images/images: holds the split folder 'test': write source: "]),
        ([*_splits("data/train"), *_splits("data/valid"), "logos"], ["images/data: holds the split folder"]),
        (["cat/train", "cat/test", "dog/train", "dog/test"], ["'test', but would be read as the class 'cat'"]),
        (_splits("train/pets", "test/pets"), ["train/pets: no image lies in it, but 2 folders", "(cat, dog)"]),
        (_splits("seg_train/seg_train", "seg_test/seg_test"), ["seg_test/seg_test: no image lies in it", "(cat, dog)"]),
        (_splits("images"), ["images/images: no image lies in it", "write source: ", "/images/images"]),
        (_splits("fold1", "fold2"), ["fold1: no image lies in it", "data.classes: [fold1, fold2]"]),
        (["no", "yes", *_splits("copy", classes=("no", "yes"))], ["copy: holds folders that are named as classes"]),
        (["animal/cat", "animal/dog", "thing/cup", "thing/pen"], ["animal: no image lies in it, but 2 folders"]),
    ],
)
def test_trees_that_mean_something_else_are_refused(
    tmp_path: Path, folders: list[str], texts: list[str], refusal_of: RefusalOf
) -> None:
    _fill(tmp_path, *folders)
    refusal = refusal_of(tmp_path, "images")
    assert all(text in refusal for text in texts), refusal


@pytest.mark.parametrize(
    "folders",
    [
        ["cat", "cat/2021", "cat/2022", "dog"],
        ["cat/images", "dog/images"],
        ["cat/cat", "dog/dog"],
        ["cat/a/b", "dog"],
        ["cat", "dog", "_extra", ".hidden"],
        [*_splits("train", "test"), "train/cat/2021", "_extra"],
    ],
)
def test_images_below_a_class_s_folder_belong_to_it(
    tmp_path: Path, folders: list[str], open_source: OpenSource
) -> None:
    _fill(tmp_path, *folders)
    data = open_source(tmp_path, "images")
    read = [folder for folder in folders if folder[0] not in "._"]
    assert data.classes == PETS
    counts = np.bincount(np.concatenate([split.labels for split in data.splits.values()]))
    assert counts.tolist() == [6 * sum(kind in folder for folder in read) for kind in PETS]


@pytest.mark.parametrize("names", [("plane", "train"), ("dev", "eval", "prod"), ("Test", "bus", "train")])
def test_classes_may_be_called_like_splits(tmp_path: Path, names: tuple[str, ...], open_source: OpenSource) -> None:
    _fill(tmp_path, *names)
    assert open_source(tmp_path, "images").classes == names


def test_classes_in_the_recipe_say_which_folders_are_meant(tmp_path: Path) -> None:
    _fill(tmp_path, "animal/cat", "animal/dog", "thing/cup", "thing/pen")

    def opened(*classes: str) -> ImageData:
        spec = DataSpec(source="images", image_size=8, classes=classes)
        return open_data(spec, tmp_path, tmp_path / "cache", 0)

    data = opened("thing", "animal")
    assert data.classes == ("thing", "animal")
    assert sum(np.bincount(split.labels)[0] for split in data.splits.values()) == 12
    with pytest.raises(InputError, match="lists 2 classes, but not thing, of which there are images; without images"):
        opened("animal", "things")
    _fill(tmp_path, "animal/test")
    with pytest.raises(InputError, match="holds the split folder 'test'"):
        opened("thing", "animal")


def test_what_is_left_out_is_told(tmp_path: Path, open_source: OpenSource, refusal_of: RefusalOf) -> None:
    _fill(tmp_path, *PETS)
    base = tmp_path / "images"
    assert open_source(tmp_path, "images").notes == ()
    for name in ("cat/1.heic", "cat/2.HEIC", "dog/x.npy", "dog/notes.txt", "dog/._x.npy"):
        (base / name).write_bytes(b"x")
    _image(1000).save(base / "stray.png")
    beside, unread = open_source(tmp_path, "images").notes
    assert beside == f"left out: 1 images that lie in {base} itself and in no class folder (stray.png)"
    assert unread.startswith("left out: 2 files .heic, 1 files .npy in the class folders")


def test_a_class_whose_files_cannot_be_read_is_refused(tmp_path: Path, refusal_of: RefusalOf) -> None:
    _fill(tmp_path, *PETS)
    fox = tmp_path / "images" / "fox"
    fox.mkdir()
    (fox / "1.heic").write_bytes(b"x")
    assert f"{fox}: no image that can be read, but 1 files .heic; allowed: .bmp" in refusal_of(tmp_path, "images")


def test_fingerprints_of_folders_stay_what_they_were(tmp_path: Path) -> None:
    """Decoded images, locks and products of earlier versions are found again."""
    for i, folder in enumerate(_splits("train", "test", "val")):
        path = tmp_path / "images" / folder
        path.mkdir(parents=True)
        for j in range(6):
            (path / f"{j}.ppm").write_bytes(b"P6 1 1 255 " + bytes([i, j, 7]))
    spec = DataSpec(source="images", image_size=8)
    assert fingerprint_data(spec, tmp_path, 0).startswith("9854c4fdf2fe252d")
