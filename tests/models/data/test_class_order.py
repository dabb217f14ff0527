"""The order of the classes, as the recipe and files say it."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from paredown.models.data.class_order import listed_classes, number_order_note
from paredown.models.data.dataset import ImageData
from paredown.models.data.opening import fingerprint_data, open_data
from paredown.models.data.spec import DataSpec
from paredown.models.errors import InputError

OpenWith = Callable[..., ImageData]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Folders 0 to 11 of five images, the first pixel of which is the folder's number."""
    for kind in range(12):
        folder = tmp_path / "digits" / str(kind)
        folder.mkdir(parents=True)
        for i in range(5):
            pixels = np.random.default_rng(12 * i + kind).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            pixels[0, 0] = kind
            Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path


def _opened(root: Path, classes: object, source: str = "digits") -> ImageData:
    spec = DataSpec.model_validate({"source": source, "image_size": 8, "classes": classes})
    return open_data(spec, root, root / "cache", 0)


def _folders(data: ImageData) -> list[set[int]]:
    """Of every label the numbers of the folders that its images come from."""
    pixels = np.concatenate([split.images[:, 0, 0, 0] for split in data.splits.values()])
    labels = np.concatenate([split.labels for split in data.splits.values()])
    return [set(pixels[labels == label].tolist()) for label in range(len(data.classes))]


def test_folders_are_in_the_order_of_text_and_numbers_are_warned_of(root: Path) -> None:
    data = _opened(root, None)
    assert _folders(data)[:4] == [{0}, {1}, {10}, {11}]
    (note,) = data.notes
    assert "in the order of text (0, 1, 10, 11, 2, ... (12))" in note
    assert "data.classes: [0, 1, 2, 3, 4, ... (12)]" in note


@pytest.mark.parametrize(
    ("names", "warned"),
    [
        (["0", "1", "2"], False),
        (["00", "01", "10"], False),
        (["a1", "a10", "a2"], True),
        (["1-ant", "10-bee", "9-cat"], True),
        (["ant", "bee"], False),
        (["10", "9", "1"], False),  # no order of text, so somebody chose it
    ],
)
def test_a_warning_where_text_and_numbers_disagree(names: list[str], warned: bool) -> None:
    assert bool(list(number_order_note(names))) == warned


def test_a_list_fixes_the_order(root: Path) -> None:
    data = _opened(root, list(range(12)))
    assert data.classes == tuple(map(str, range(12)))
    assert _folders(data) == [{i} for i in range(12)]
    assert data.notes == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("names.txt", "".join(f"{i}\n" for i in range(12))),
        ("windows.txt", "\ufeff" + "".join(f"{i}\r\n" for i in range(12))),
        ("windows.json", "\ufeff" + json.dumps([str(i) for i in range(12)])),
        ("list.json", json.dumps([str(i) for i in range(12)])),
        ("id2label.json", json.dumps({str(i): str(i) for i in reversed(range(12))})),
        ("config.json", json.dumps({"model_type": "x", "id2label": {i: str(i) for i in range(12)}})),
        ("class_to_idx.json", json.dumps({str(i): i for i in reversed(range(12))})),
    ],
)
def test_a_file_fixes_the_order(root: Path, name: str, text: str) -> None:
    (root / name).write_text(text)
    assert _folders(_opened(root, name)) == [{i} for i in range(12)]


def test_label2id_may_have_another_order_than_its_keys(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('{"cat": 1, "ant": 0, "bee": 2}')
    assert listed_classes("names.json", tmp_path) == ("ant", "cat", "bee")


def test_the_model_may_know_more_classes_than_there_are_images_of(root: Path) -> None:
    names = [f"n{i}" for i in range(5)] + [str(i) for i in reversed(range(12))] + ["last"]
    data = _opened(root, names)
    assert data.classes == tuple(names)
    assert _folders(data) == [set()] * 5 + [{i} for i in reversed(range(12))] + [set()]
    assert sum(map(len, data.splits.values())) == 60


@pytest.mark.parametrize(
    ("classes", "text"),
    [
        ([str(i) for i in range(11)], "lists 11 classes, but not 11, of which there are images"),
        (
            [f"n{i}" for i in range(12)],
            "but not 0, 1, 10, 11, 2, ... (12), of which there are images; without",
        ),
        (["a", "b", "a"], "data.classes: the class 'a' is there twice"),
        (["a"], "data.classes: 1 classes; a classifier needs two or more"),
        ("none.txt", "none.txt cannot be read"),
        (
            "bad.json",
            "bad.json: no list of classes that can be read (the numbers are not 0 to 1, each once); all",
        ),
        ("deep.json", "deep.json: no list of classes that can be read (got something else than names)"),
        ("cut.json", "cut.json: no list of classes that can be read"),
    ],
)
def test_classes_that_do_not_fit_say_why(root: Path, classes: object, text: str) -> None:
    (root / "bad.json").write_text('{"1": "a", "2": "b"}')
    (root / "deep.json").write_text('{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}')
    (root / "cut.json").write_text('["a", ')
    with pytest.raises(InputError) as caught:
        _opened(root, classes)
    assert text in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("classes", [[False, True], [1.5, "a"], [None, "a"]])
def test_names_that_yaml_reads_as_something_else_are_refused(classes: list[object]) -> None:
    with pytest.raises(ValidationError, match=f"the class {classes[0]} is no text to YAML; write the name in quotes"):
        DataSpec.model_validate({"source": "x", "image_size": 8, "classes": classes})


def test_numbers_without_names_are_positions(tmp_path: Path) -> None:
    labels = np.repeat([0, 2, 5], 8)
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    data = _opened(tmp_path, ["a", "b", "c", "d", "e", "f", "g"], "x.npz")
    assert sorted(set(data.train.labels)) == [0, 2, 5]
    assert data.classes[5] == "f"
    with pytest.raises(InputError, match=r"class '1' has 0 different images .* are listed in data\.classes"):
        _opened(tmp_path, None, "x.npz")
    with pytest.raises(InputError, match="lists 4 classes, but not 0, 1, 2, 3, 4"):
        _opened(tmp_path, ["a", "b", "c", "d"], "x.npz")


def test_the_order_belongs_to_the_fingerprint(root: Path) -> None:
    def now(classes: object) -> str:
        spec = DataSpec.model_validate({"source": "digits", "image_size": 8, "classes": classes})
        return fingerprint_data(spec, root, 0)

    (root / "names.txt").write_text("\n".join(map(str, range(12))))
    before = now("names.txt")
    (root / "names.txt").write_text("\n".join(map(str, reversed(range(12)))))
    assert len({before, now("names.txt"), now(None), now(list(range(12)))}) == 4
    assert "classes" not in DataSpec(source="digits", image_size=8).model_dump_json()


def test_names_that_only_look_alike_are_told_apart(tmp_path: Path) -> None:
    """macOS writes an accented letter as two characters, editors as one."""
    written, listed = "fele\u0301", "fel\u00e9"
    for name in (written, "other"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (8, 8), (i, ord(name[0]), 0)).save(tmp_path / "pictures" / name / f"{i}.png")
    with pytest.raises(InputError) as caught:
        _opened(tmp_path, [listed, "other"], "pictures")
    assert r"'fele\u0301' of the images and 'fel\xe9' of the list only look alike" in str(caught.value)
    assert _opened(tmp_path, [written, "other"], "pictures").classes == (written, "other")
