import itertools
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from paredown.models.data.dataset import ImageData, Split
from paredown.models.data.opening import fingerprint_data, open_data
from paredown.models.data.spec import DataSpec, Splits
from paredown.models.errors import InputError, MachineError, MissingError

NAMES = ("train", "calibration", "validation", "test")


def _image(seed: int, size: int = 10) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def _totals(data: ImageData) -> list[int]:
    labels = np.concatenate([getattr(data, name).labels for name in NAMES])
    return [int(count) for count in np.bincount(labels)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """60 images of `cat`, 40 of `dog`, in one folder per class."""
    for kind, count in (("cat", 60), ("dog", 40)):
        folder = tmp_path / "pets" / kind
        folder.mkdir(parents=True)
        for i in range(count):
            Image.fromarray(_image(i + count * 1000)).save(folder / f"{i:03}.png")
    return tmp_path


def _spec(**fields: Any) -> DataSpec:
    return DataSpec(**{"source": "pets", "image_size": 8, **fields})


def _open(root: Path, seed: int = 0, **fields: Any) -> ImageData:
    return open_data(_spec(**fields), root, root / "cache", seed)


def _contents(split: Split) -> set[bytes]:
    return {image.tobytes() for image in split.images}


def test_splits_are_stratified_disjoint_and_complete(root: Path) -> None:
    data = _open(root)
    assert data.classes == ("cat", "dog")
    counts = [np.bincount(getattr(data, name).labels).tolist() for name in NAMES]
    assert counts == [[33, 22], [3, 2], [9, 6], [15, 10]]
    assert len(set.union(*(_contents(getattr(data, name)) for name in NAMES))) == 100
    assert data.train.images.shape == (55, 8, 8, 3)
    assert not data.train.images.flags.writeable


def test_the_seed_decides_the_splits(root: Path) -> None:
    first, again, other = _open(root), _open(root), _open(root, seed=1)
    assert _contents(first.test) == _contents(again.test)
    assert _contents(first.test) != _contents(other.test)
    assert first.fingerprint != other.fingerprint


def test_images_are_decoded_once_and_nothing_unfinished_stays(root: Path) -> None:
    said: list[tuple[str, float, float]] = []
    data = open_data(_spec(), root, root / "cache", 0, lambda *what: said.append(what))
    assert said[-1] == ("decoding images", 100, 100)
    assert [path.name for path in (root / "cache").iterdir()] == [data.fingerprint]
    said.clear()
    again = open_data(_spec(), root, root / "cache", 0, lambda *what: said.append(what))
    assert said == []
    assert np.array_equal(again.train.images, data.train.images)


def test_labels_stay_with_their_images(root: Path) -> None:
    cats = {np.asarray(Image.open(path)).tobytes() for path in (root / "pets" / "cat").iterdir()}
    data = _open(root, image_size=10)
    for name in NAMES:
        split: Split = getattr(data, name)
        assert [image.tobytes() in cats for image in split.images] == (split.labels == 0).tolist()


def test_equal_images_never_land_on_two_sides(root: Path) -> None:
    for i in range(30):
        Image.fromarray(_image(i % 5)).save(root / "pets" / "dog" / f"twin{i}.png")
    data = _open(root, image_size=10)
    homes = [[name for name in NAMES if _image(i).tobytes() in _contents(getattr(data, name))] for i in range(5)]
    assert all(len(home) == 1 for home in homes)
    assert data.dropped == 0


def test_a_limit_takes_every_class_in_proportion(root: Path) -> None:
    data = _open(root, limit=50)
    assert _totals(data) == [30, 20]


def test_a_given_test_folder_is_the_test_split_and_its_twins_leave_train(root: Path) -> None:
    for first, kind in ((0, "cat"), (4, "dog")):
        folder = root / "all" / "test" / kind
        folder.mkdir(parents=True)
        for i in range(first, first + 4):
            Image.fromarray(_image(i)).save(folder / f"{i}.png")
    (root / "pets").rename(root / "all" / "train")
    Image.fromarray(_image(0)).save(root / "all" / "train" / "cat" / "leak.png")
    data = _open(root, source="all", image_size=10)
    assert np.bincount(data.test.labels).tolist() == [4, 4]
    assert data.dropped == 1
    assert not any(_contents(data.test) & _contents(getattr(data, name)) for name in NAMES[:3])
    assert [len(getattr(data, name)) for name in NAMES[:3]] == [73, 7, 20]


def test_a_val_folder_without_a_test_folder_is_the_test_split(root: Path) -> None:
    base = root / "all"
    base.mkdir()
    (root / "pets").rename(base / "train")
    for kind in ("cat", "dog"):
        (base / "val" / kind).mkdir(parents=True)
        (base / "train" / kind / "000.png").rename(base / "val" / kind / "0.png")
    assert len(_open(root, source="all").test) == 2
    (base / "val" / "fox").mkdir()
    with pytest.raises(InputError, match="'fox' is not in train"):
        _open(root, source="all")


def test_the_fingerprint_follows_bytes_names_and_spec(root: Path) -> None:
    def now(seed: int = 0, **fields: Any) -> str:
        return fingerprint_data(_spec(**fields), root, seed)

    seen = [now(), now(seed=1), now(image_size=9)]
    assert now() == seen[0] == _open(root).fingerprint
    path = root / "pets" / "dog" / "000.png"
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert path.stat().st_size == before.st_size
    seen.append(now())
    (root / "pets" / "dog").rename(root / "pets" / "hound")
    seen.append(now())
    assert len(set(seen)) == 5


def test_normalised_batches_come_in_order_and_cover_the_split(root: Path) -> None:
    data = _open(root, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3))
    batches = list(data.batches(data.test, 10))
    assert [len(labels) for _, labels in batches] == [10, 10, 5]
    images = np.concatenate([images for images, _ in batches])
    wanted = (data.test.images / 255 - np.array([0.5, 0.4, 0.3])) / np.array([0.1, 0.2, 0.3])
    assert images.dtype == np.float32
    assert images.flags.c_contiguous
    assert np.allclose(images, wanted.transpose(0, 3, 1, 2), atol=1e-5)
    assert np.array_equal(np.concatenate([labels for _, labels in batches]), data.test.labels)


def test_training_batches_repeat_and_differ_between_epochs(root: Path) -> None:
    data = _open(root, augment="dihedral")
    first, again, later = (list(data.training_batches(16, epoch, 3)) for epoch in (0, 0, 1))
    assert [len(labels) for _, labels, _ in first] == [16, 16, 16]
    assert all(torch.equal(x, y) for a, b in zip(first, again, strict=True) for x, y in zip(a, b, strict=True))
    assert not torch.equal(first[0][0], later[0][0])
    for _, labels, positions in first:
        assert np.array_equal(labels.numpy(), data.train.labels[positions.numpy()])


def test_ranks_share_an_epoch_evenly(root: Path) -> None:
    data = _open(root)
    ranks = [torch.cat([p for _, _, p in data.training_batches(9, 0, 0, rank, 3)]).tolist() for rank in range(3)]
    assert [len(rank) for rank in ranks] == [18, 18, 18]
    assert len(set(itertools.chain(*ranks))) == 54


def test_without_augmentation_training_sees_what_evaluation_sees(root: Path) -> None:
    data = _open(root, augment="none")
    images, _, positions = next(iter(data.training_batches(100, 0, 0)))
    assert len(images) == 55
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(images.numpy(), data.normalise(data.train.images[positions.numpy()]))


def test_take_keeps_the_proportions_and_the_pairs(root: Path) -> None:
    train = _open(root).train
    some = train.take(20, seed=1)
    assert np.bincount(some.labels).tolist() == [12, 8]
    whole = {image.tobytes(): label for image, label in zip(train.images, train.labels, strict=True)}
    assert all(whole[image.tobytes()] == label for image, label in zip(some.images, some.labels, strict=True))
    assert len(train.take(1000, seed=1)) == len(train)
    assert not np.array_equal(some.images, train.take(20, seed=2).images)


def test_specs_that_make_no_sense_are_refused() -> None:
    for fields in ({"std": (0.0, 1.0, 1.0)}, {"image_size": 0}, {"augment": "spin"}, {"limit": 0}):
        with pytest.raises(ValidationError):
            _spec(**fields)
    with pytest.raises(ValidationError, match=r"add up to 1\.1"):
        Splits(train=0.65)


def test_a_cache_that_cannot_be_written_or_read_says_so(root: Path) -> None:
    (root / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be written"):
        open_data(_spec(), root, root / "file", 0)
    data = _open(root)
    (root / "cache" / data.fingerprint / "train.npy").write_bytes(b"")
    with pytest.raises(MachineError, match="damaged, delete this folder"):
        _open(root)


@pytest.mark.skipif(find_spec("elpv_dataset") is None, reason="needs elpv-dataset")
def test_the_elpv_package_opens(tmp_path: Path) -> None:
    data = _open(tmp_path, source="package:elpv_dataset", limit=40, image_size=32)
    assert data.classes == ("functional", "defective")
    assert data.licence.startswith("CC BY-NC-SA 4.0")
    assert _totals(data) == [27, 13]


def test_data_packages_that_are_missing_or_unknown_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingError, match="pip install elpv-dataset"):
        _open(tmp_path, source="package:elpv_dataset")
    with pytest.raises(InputError, match="only data package known"):
        _open(tmp_path, source="package:other")


def test_keys_that_came_later_change_no_fingerprint_while_they_have_their_default(tmp_path: Path) -> None:
    def now(**fields: Any) -> str:
        return fingerprint_data(_spec(source="set.npz", **fields), tmp_path, 0)

    images = np.arange(8 * 3 * 64, dtype=np.int64).astype(np.uint8).reshape(8, 8, 8, 3)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(8) % 2)
    written = {"crop_mode": "center", "crop_pct": 1, "interpolation": "bilinear"}
    assert not {*written} & {*_spec().model_dump()}
    others = [now(crop_mode="squash"), now(crop_pct=0.875), now(interpolation="bicubic")]
    assert now() == now(**written)
    assert len({now(), *others}) == 4


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"mean": (123.7, 116.3, 103.5)}, r"divide both by 255: \[0\.485, 0\.456, 0\.406\]"),
        ({"std": (58.4, 57.1, 57.4)}, r"divide both by 255: \[0\.229, 0\.224, 0\.225\]"),
        ({"mean": (-0.1, 0, 0)}, r"-0\.1 is not in 0\.\.1"),
        ({"mean": (0.5, float("nan"), 0.5)}, "nan is not in"),
        ({"std": (1, 0, 1)}, "greater than 0"),
        ({"std": (1, -1, 1)}, "greater than 0"),
        ({"std": (1, float("nan"), 1)}, "greater than 0"),
        ({"crop_pct": 0}, "greater than 0"),
        ({"crop_pct": 1.1}, "less than or equal to 1"),
        ({"crop_mode": "centre"}, "center"),
        ({"interpolation": "cubic"}, "bicubic"),
    ],
)
def test_pixel_statistics_and_framings_that_cannot_be(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        _spec(**fields)


def test_networks_that_want_pixels_up_to_255_get_them(root: Path) -> None:
    data = _open(root, mean=(0, 0, 0), std=(1 / 255,) * 3)
    assert np.allclose(data.normalise(data.test.images), data.test.images.transpose(0, 3, 1, 2), atol=1e-3)


def test_beyond_the_first_images_come_others(data: ImageData) -> None:
    first, more = (one.images.reshape(len(one), -1) for one in (data.train.take(20, 1), data.train.beyond(20, 30, 1)))
    assert len(more) == 30
    assert not {image.tobytes() for image in first} & {image.tobytes() for image in more}
    assert len(data.train.beyond(90, 30, 1)) == len(data.train) - 90
    assert len(data.train.beyond(len(data.train), 30, 1)) == 0


def test_no_image_is_both_within_the_first_ones_and_beyond_them(data: ImageData) -> None:
    for n in range(1, 12):
        halves = data.train.within(21, n, 1), data.train.beyond(21, n, 1)
        within, beyond = ({image.tobytes() for image in half.images.reshape(len(half), -1)} for half in halves)
        assert len(within) == len(beyond) == n
        assert not within & beyond
