"""Files in a gzip container, unpacked within bounds. Imports nothing but the standard library."""

import gzip
import zlib
from pathlib import Path

LARGEST = 2**31 - 1
"""Bytes of a model: what protobuf can hold in one message."""
FREE, RATIO = 64 * 2**20, 100
"""Bytes that every file may unpack to, and how many times its own size beyond that: zeros at 99 % pack to a sixtieth,
bombs to a thousandth."""
_PIECE = 2**20


class ContainerError(Exception):
    """A file that is no sound gzip file, or unpacks to more than is allowed; the text is without the file's name."""


def allowed_bytes(packed: int) -> int:
    """The bytes that `packed` bytes may stand for."""
    return min(LARGEST, FREE + RATIO * packed)


def unpacked_bytes(path: Path) -> bytes:
    """The content of a gzip file. Raises ContainerError; never holds more than `allowed_bytes` says."""
    try:
        most = allowed_bytes(path.stat().st_size)
        content = bytearray()
        with gzip.open(path) as stream:
            while piece := stream.read(_PIECE):
                content += piece
                if len(content) > most:
                    raise ContainerError(f"it unpacks to more than {most} bytes, as no model of its size does")
        return bytes(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ContainerError(f"it cannot be unpacked: {error}") from error
