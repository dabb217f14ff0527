"""What tests of sources of images share: opening one, and the line with which one is refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from paredown.models.data.dataset import ImageData
from paredown.models.data.opening import open_data
from paredown.models.data.spec import DataSpec
from paredown.models.errors import InputError


def _open(root: Path, source: str, size: int = 8) -> ImageData:
    return open_data(DataSpec(source=source, image_size=size), root, root / "cache", 0)


def _refused(root: Path, source: str) -> str:
    with pytest.raises(InputError) as caught:
        _open(root, source)
    assert "\n" not in str(caught.value)
    assert not list((root / "cache").glob("*")) if (root / "cache").exists() else True
    return str(caught.value)


@pytest.fixture
def open_source() -> Callable[..., ImageData]:
    """Opens `source` (side `size`), its cache beside it."""
    return _open


@pytest.fixture
def refusal_of() -> Callable[[Path, str], str]:
    """The one line with which `source` is refused, having left nothing in the cache."""
    return _refused
