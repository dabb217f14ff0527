"""CIFAR-10 from an archive of JPEG files, `<anything>/train/<class>/<name>.jpg` and the same for `test`."""

import io
import tarfile
from collections import defaultdict
from pathlib import Path

from PIL import Image

ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "cifar10-imagefolder.tar.gz"


class Packed:
    """Images of one split as their encoded bytes: some 10 MB, decoded when they are asked for."""

    def __init__(self, items: list[tuple[bytes, int]], classes: list[str]) -> None:
        self.items, self.classes = items, classes

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        content, label = self.items[index]
        return Image.open(io.BytesIO(content)), label


def splits() -> dict[str, Packed]:
    """For a recipe's `data.source`."""
    found: dict[str, list[tuple[str, str, bytes]]] = defaultdict(list)
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            path = Path(member.name)
            if member.isfile() and path.suffix in (".jpg", ".png"):
                file = archive.extractfile(member)
                assert file is not None
                found[path.parts[-3]].append((path.parts[-2], path.name, file.read()))
    classes = sorted({label for label, _, _ in found["train"]})
    return {
        name: Packed([(content, classes.index(label)) for label, _, content in sorted(found[name])], classes)
        for name in ("train", "test")
    }
