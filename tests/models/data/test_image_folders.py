"""Images in folders, one per class."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paredown.models.data.dataset import ImageData

OpenSource = Callable[..., ImageData]
RefusalOf = Callable[[Path, str], str]


def _folder(root: Path, **counts: int) -> Path:
    for kind, count in counts.items():
        folder = root / "images" / kind
        folder.mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", (8, 8), (i, count, ord(kind))).save(folder / f"{i}.png")
    return root / "images"


def test_folders_that_cannot_be_used_say_why(tmp_path: Path, refusal_of: RefusalOf) -> None:
    assert f"{tmp_path / 'none'}: no such folder" in refusal_of(tmp_path, "none")
    base = _folder(tmp_path, a=5)
    assert "one class only (a)" in refusal_of(tmp_path, "images")
    (base / "b").mkdir()
    assert "class 'b' has 0 different images for 4 splits" in refusal_of(tmp_path, "images")
    (tmp_path / "empty" / "x").mkdir(parents=True)
    assert "no images: it must hold one folder per class" in refusal_of(tmp_path, "empty")


def test_a_class_needs_a_different_image_for_every_split(
    tmp_path: Path, open_source: OpenSource, refusal_of: RefusalOf
) -> None:
    base = _folder(tmp_path, a=4, b=3)
    (base / "b" / "twin.png").write_bytes((base / "b" / "0.png").read_bytes())
    assert "class 'b' has 3 different images for 4 splits" in refusal_of(tmp_path, "images")
    Image.new("RGB", (8, 8), (9, 9, 9)).save(base / "b" / "twin.png")
    data = open_source(tmp_path, "images")
    assert all(sorted(s.labels) == [0, 1] for s in (data.train, data.calibration, data.validation, data.test))


def test_broken_images_are_named(tmp_path: Path, refusal_of: RefusalOf) -> None:
    base = _folder(tmp_path, a=5, b=5)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(base / "a" / "cut.jpg")
    whole = (base / "a" / "cut.jpg").read_bytes()
    for content in (whole[: len(whole) // 2], b"not an image", b""):
        (base / "a" / "cut.jpg").write_bytes(content)
        assert f"{base / 'a' / 'cut.jpg'}: cannot be decoded" in refusal_of(tmp_path, "images")
    (base / "a" / "cut.jpg").unlink()
    (base / "a" / "folder.png").mkdir()
    assert f"{base / 'a' / 'folder.png'}: cannot be read" in refusal_of(tmp_path, "images")


def test_hidden_files_and_other_files_are_passed_over(tmp_path: Path, open_source: OpenSource) -> None:
    base = _folder(tmp_path, a=5, b=5)
    (base / "a" / "._0.png").write_bytes(b"resource fork")
    (base / "a" / "notes.txt").write_text("x")
    (base / ".git").mkdir()
    data = open_source(tmp_path, "images")
    assert data.classes == ("a", "b")
    assert sum(map(len, (data.train, data.calibration, data.validation, data.test))) == 10


@pytest.mark.parametrize(
    "path", [".ipynb_checkpoints/0-checkpoint.png", "__MACOSX/._0.png", "@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg"]
)
def test_what_hidden_folders_and_those_of_systems_hold_is_no_image(
    tmp_path: Path, open_source: OpenSource, path: str
) -> None:
    base = _folder(tmp_path, a=5, b=5)
    for hidden in (base / "a" / path, base / path):
        hidden.parent.mkdir(parents=True)
        Image.new("RGB", (8, 8), (1, 2, 3)).save(hidden)
    data = open_source(tmp_path, "images")
    assert data.classes == ("a", "b")
    assert sum(map(len, (data.train, data.calibration, data.validation, data.test))) == 10


def test_linked_images_are_of_the_folder_with_the_link_and_linked_folders_are_told(
    tmp_path: Path, open_source: OpenSource
) -> None:
    base = _folder(tmp_path, a=5, b=5)
    (base / "b").rename(tmp_path / "elsewhere")
    (base / "b").symlink_to(tmp_path / "elsewhere")
    Image.new("RGB", (8, 8), (9, 8, 7)).save(tmp_path / "photo.jpg")
    (base / "a" / "photo.jfif").symlink_to(tmp_path / "photo.jpg")
    (base / "a" / "more").symlink_to(tmp_path / "elsewhere")
    data = open_source(tmp_path, "images")
    splits = (data.train, data.calibration, data.validation, data.test)
    assert [sum(int((split.labels == label).sum()) for split in splits) for label in (0, 1)] == [6, 5]
    assert any("1 files that are links to folders" in note for note in data.notes)
