"""Torch datasets of a user's function."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from paredown.models.data.dataset import ImageData
from paredown.models.data.opening import fingerprint_data, open_data
from paredown.models.data.spec import DataSpec

OpenSource = Callable[..., ImageData]
RefusalOf = Callable[[Path, str], str]

DATASETS = """
import random
import numpy as np
import torch
from PIL import Image

class Made:
    classes = ["down", "up"]

    def __init__(self, count, make, offset=0):
        self.count, self.make, self.offset = count, make, offset

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.make(index + self.offset), index % 2

def pixels(i):
    return np.random.default_rng(i).integers(0, 256, (3, 8, 8), dtype=np.uint8)

def tensors(): return Made(40, lambda i: torch.from_numpy(pixels(i)))
def floats(): return Made(40, lambda i: torch.from_numpy(pixels(i)) / 255)
def pictures(): return Made(40, lambda i: Image.fromarray(pixels(i).transpose(1, 2, 0)))
def split(): return {"train": tensors(), "val": Made(10, lambda i: torch.from_numpy(pixels(i)), 100)}
def odd(): return {"train": tensors(), "holdout": tensors()}
def normalised(): return Made(40, lambda i: torch.from_numpy(pixels(i)) / 255 - 1)
def last(): return Made(40, lambda i: torch.from_numpy(pixels(i)).permute(1, 2, 0))
def shaky(): return Made(40, lambda i: torch.from_numpy(pixels(random.randrange(10 ** 9))))
def number(): return 3
def broken(): raise RuntimeError("no disk")
"""


@pytest.fixture
def made(tmp_path: Path) -> Path:
    (tmp_path / "made.py").write_text(DATASETS)
    return tmp_path


def _all(data: ImageData) -> set[bytes]:
    splits = (data.train, data.calibration, data.validation, data.test)
    return {image.tobytes() for split in splits for image in split.images}


def test_datasets_of_tensors_and_pictures_open_alike(made: Path, open_source: OpenSource) -> None:
    opened = [open_source(made, f"made.py:{name}") for name in ("tensors", "floats", "pictures")]
    assert all(data.classes == ("down", "up") and len(data.train) == 22 for data in opened)
    assert _all(opened[0]) == _all(opened[1]) == _all(opened[2]) == {_pixels(i) for i in range(40)}


def _pixels(seed: int) -> bytes:
    made = np.random.default_rng(seed).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    return made.transpose(1, 2, 0).tobytes()


def test_datasets_by_split_keep_their_test_split(made: Path, open_source: OpenSource) -> None:
    data = open_source(made, "made.py:split")
    assert {image.tobytes() for image in data.test.images} == {_pixels(i + 100) for i in range(10)}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("none", "no function 'none'"),
        ("odd", "returned train, holdout; allowed: train and calibration, validation, test"),
        ("normalised", "allowed: 0 to 1, not normalised"),
        ("last", "got uint8 (8, 8, 3); allowed: a PIL image, or (3 or 1, H, W)"),
        ("shaky", "another image each time: leave changes to data.augment"),
        ("number", "returned int, not a dataset with a length"),
        ("broken", "raised RuntimeError: no disk"),
    ],
)
def test_datasets_that_cannot_be_used_say_why(made: Path, name: str, text: str, refusal_of: RefusalOf) -> None:
    assert text in refusal_of(made, f"made.py:{name}")


def test_a_dataset_s_fingerprint_follows_its_contents(made: Path) -> None:
    def now() -> str:
        return fingerprint_data(DataSpec(source="made.py:tensors", image_size=8), made, 0)

    before = now()
    assert now() == before
    (made / "made.py").write_text(DATASETS.replace("default_rng(i)", "default_rng(i + 1)"))
    assert now() != before


NAMED = """
import numpy as np
from PIL import Image

class Named:
    def __init__(self, offset, classes, order=None, **more):
        self.offset, self.order = offset, list(order or classes)
        if classes:
            self.classes = classes
        vars(self).update(more)

    def __len__(self):
        return 24

    def __getitem__(self, index):
        picked = self.order[index % len(self.order)]
        number = ["ant", "bee", "cat"].index(picked.lower())
        pixels = np.random.default_rng(index + self.offset).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        pixels[0, 0] = number  # whose picture it is, whatever the label says
        return Image.fromarray(pixels), self.order.index(picked)

class Subset:
    def __init__(self, dataset):
        self.dataset = dataset
    def __len__(self):
        return len(self.dataset)
    def __getitem__(self, index):
        return self.dataset[index]

class ConcatDataset:
    def __init__(self, *datasets):
        self.datasets = list(datasets)
    def __len__(self):
        return sum(map(len, self.datasets))
    def __getitem__(self, index):
        return self.datasets[index // 24][index % 24]

TRAIN = ["ant", "bee", "cat"]
def plain(): return {"train": Named(0, TRAIN), "test": Named(100, TRAIN)}
def turned(): return {"train": Named(0, TRAIN), "test": Named(100, ["cat", "ant", "bee"])}
def valid(): return {"train": Named(0, TRAIN), "valid": Named(100, ["cat", "ant", "bee"]), "Test": Named(200, TRAIN)}
def wrapped(): return {"train": Subset(Named(0, TRAIN)), "test": Subset(Named(100, ["cat", "bee", "ant"]))}
def numbered():
    numbers = dict(bee=0, cat=1, ant=2)
    return {"train": Named(0, TRAIN), "test": Named(100, [], list(numbers), class_to_idx=numbers)}
def spelled(): return {"train": Named(0, TRAIN), "test": Named(100, ["Ant", "bee", "cat"])}
def joined():
    both = ConcatDataset(Named(0, TRAIN), Named(50, TRAIN))
    return {"train": both, "test": Subset(Named(100, ["cat", "bee", "ant"]))}
def alone(): return Subset(Named(0, ["cat", "ant", "bee"]))
def at_odds(): return ConcatDataset(Named(0, TRAIN), Subset(Named(50, ["cat", "ant", "bee"])))
def fewer(): return {"train": Named(0, TRAIN), "test": Named(100, ["cat", "bee"])}
def without(): return {"train": Named(0, TRAIN), "test": Named(100, [], TRAIN)}
def torn(): return {"train": Named(0, TRAIN, class_to_idx=dict(bee=0, cat=1, ant=2)), "test": Named(100, TRAIN)}
def twice(): return {"train": Named(0, TRAIN), "val": Named(100, TRAIN), "valid": Named(200, TRAIN)}
"""


@pytest.fixture
def named(tmp_path: Path) -> Path:
    (tmp_path / "named.py").write_text(NAMED)
    return tmp_path


@pytest.mark.parametrize("name", ["plain", "turned", "valid", "wrapped", "joined", "numbered", "without"])
def test_classes_are_matched_by_name_over_all_splits(named: Path, name: str, open_source: OpenSource) -> None:
    data = open_source(named, f"named.py:{name}")
    assert data.classes == ("ant", "bee", "cat")
    for split in data.splits.values():
        assert split.labels.tolist() == split.images[:, 0, 0, 0].tolist()
        assert sorted(set(split.labels)) == [0, 1, 2]


def test_listed_classes_go_by_the_names_that_a_subset_hides(named: Path) -> None:
    listed = ("bee", "dog", "cat", "ant")
    spec = DataSpec(source="named.py:alone", image_size=8, classes=listed)
    for split in open_data(spec, named, named / "cache", 0).splits.values():
        shown = [("ant", "bee", "cat")[number] for number in split.images[:, 0, 0, 0]]
        assert [listed[label] for label in split.labels] == shown


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("(image, 1, 'a.png')", "the item has 3 values; allowed: a pair (image, label)"),
        ("{'image': image, 'label': 1}", "the item is dict; allowed: a pair (image, label)"),
    ],
)
def test_items_of_another_form_are_refused(tmp_path: Path, item: str, text: str, refusal_of: RefusalOf) -> None:
    code = f"import numpy as np\nimage = np.zeros((3, 8, 8), np.uint8)\ndef get(): return [{item}] * 4\n"
    (tmp_path / "made.py").write_text(code)
    assert text in refusal_of(tmp_path, "made.py:get")


def test_a_split_without_names_is_told(named: Path, open_source: OpenSource) -> None:
    assert open_source(named, "named.py:turned").notes == ()
    (note,) = open_source(named, "named.py:without").notes
    assert "train names its classes and test does not" in note


def test_splits_of_a_function_have_their_usual_names(named: Path, open_source: OpenSource) -> None:
    data = open_source(named, "named.py:valid")
    assert data.origins == {
        "train": "'train' of named.py:valid",
        "validation": "'valid' of named.py:valid",
        "test": "'Test' of named.py:valid",
    }
    assert (len(data.validation), len(data.test)) == (24, 24)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("spelled", "test: has images of the class 'Ant', which train does not name; its classes are ant, bee, cat"),
        ("fewer", "class 'ant' has no image in the split 'test'"),
        ("at_odds", "that are joined to one name other classes (ant, bee, cat, ... and cat, ant, bee, ...)"),
        ("torn", "classes (ant, bee, cat, ...) and class_to_idx (bee, cat, ant, ...) have another order"),
        ("twice", "val and valid both mean the split 'validation'"),
    ],
)
def test_classes_and_splits_that_contradict_each_other(
    named: Path, name: str, text: str, refusal_of: RefusalOf
) -> None:
    assert text in refusal_of(named, f"named.py:{name}")


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("index % 2 + 0.7", "the label 0.7 is no whole number"),
        ("float('nan')", "the label nan is no whole number"),
        ("index % 2 - 1", "the label -1 is no whole number from 0 on"),
        ("'3'", "the label '3' is text"),
        ("np.eye(2)[index % 2]", "the label has the shape (2,), as one-hot"),
        ("None", "the label None is NoneType"),
        ("2 * (index % 2)", "class '1' has 0 different images for 4 splits"),
    ],
)
def test_labels_that_are_no_whole_numbers_are_refused(
    tmp_path: Path, label: str, text: str, refusal_of: RefusalOf
) -> None:
    made = DATASETS.replace("index % 2\n", f"{label}\n").replace('    classes = ["down", "up"]\n', "")
    (tmp_path / "made.py").write_text(made)
    assert text in refusal_of(tmp_path, "made.py:pictures")


@pytest.mark.parametrize(
    "label", ["float(index % 2)", "bool(index % 2)", "np.array([index % 2])", "torch.tensor(index % 2)"]
)
def test_whole_numbers_of_any_type_are_labels(tmp_path: Path, label: str, open_source: OpenSource) -> None:
    (tmp_path / "made.py").write_text(DATASETS.replace("index % 2\n", f"{label}\n"))
    data = open_source(tmp_path, "made.py:pictures")
    pictures = {_pixels(i): i % 2 for i in range(40)}
    assert all(pictures[i.tobytes()] == j for i, j in zip(data.train.images, data.train.labels, strict=True))


def test_fingerprints_of_functions_stay_what_they_were(tmp_path: Path) -> None:
    """Decoded images, locks and products of earlier versions are found again."""
    (tmp_path / "made.py").write_text(
        """
import numpy as np
class Made:
    classes = ["down", "up"]
    def __init__(self, offset): self.offset = offset
    def __len__(self): return 12
    def __getitem__(self, i):
        return np.full((3, 8, 8), self.offset + i, np.uint8), i % 2
def three(): return {"val": Made(0), "train": Made(12), "test": Made(24)}
def two(): return {"train": Made(12), "val": Made(24)}
def other(): return {"train": Made(12), "validation": Made(24)}
"""
    )
    specs = {name: DataSpec(source=f"made.py:{name}", image_size=8) for name in ("three", "two", "other")}
    now = {name: fingerprint_data(spec, tmp_path, 0)[:12] for name, spec in specs.items()}
    assert now == {"three": "f0191deeee88", "two": "bd8359658d78", "other": "d99f76b09121"}


def test_a_module_is_a_source_and_errors_carry_their_place(
    made: Path, open_source: OpenSource, refusal_of: RefusalOf
) -> None:
    (made / "sets").mkdir()
    (made / "sets" / "mine.py").write_text(
        "import made\nfrom made import tensors\n\ndef broken(): return made.broken()\n"
    )
    assert f"RuntimeError: no disk ({made / 'made.py'}:" in refusal_of(made, "sets.mine:broken")
    assert open_source(made, "sets.mine:tensors").classes == ("down", "up")
