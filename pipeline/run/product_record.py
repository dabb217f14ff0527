"""The record in the folder of a stored product: its key, its seconds, and its files with their digests."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paredown.models.errors import InputError
from paredown.models.files import digest_file

RECORD = "stored.json"
"""In a product's folder: its key, its seconds, and the sha256 of its files. No stage may write a file of that name, nor
one that differs from it by case only: file systems that ignore case would keep just one of the two."""
_OLD_RECORD = "MANIFEST.json"
"""The name that older versions gave it. Their links are still seen, so that they can be taken away."""
_HASHED_ON_READ = 64 * 2**20
"""Bytes; larger files are checked by their size only when a product is read again."""


def product_digests(product: Path) -> dict[str, str]:
    """File to sha256 of a product, as noted when it was checked in; empty where the product is not there."""
    listed = read_record(product)["files"] if _record_file(product).exists() else {}
    return {name: entry["sha256"] for name, entry in sorted(listed.items())}


def record_text(folder: Path, key: str, seconds: float) -> str:
    """The record of what a stage wrote into a folder, as JSON; `seconds` is what it took.

    Raises InputError where the stage wrote a file of the record's name.
    """
    for file in folder.iterdir():
        if file.name.casefold() == RECORD:
            raise InputError(f"{file}: the stage wrote a file of this name, under which the store keeps its own")
    files = {
        str(file.relative_to(folder)): {"sha256": digest_file(file), "size": file.stat().st_size}
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    record = {"key": key, "seconds": round(seconds, 3), "files": files, "check": record_sum(key, files)}
    return json.dumps(record, indent=1, sort_keys=True)


def record_sum(key: str, files: Mapping[str, object]) -> str:
    """Digest of the record itself, so that a damaged record is noticed too."""
    return hashlib.sha256(json.dumps([key, files], sort_keys=True).encode()).hexdigest()


def record_fault(folder: Path, key: str) -> str | None:
    """What is wrong with a stored product; None when it is whole."""
    try:
        record = read_record(folder)
        files = record["files"]
        if record["key"] != key or record["check"] != record_sum(key, files):
            return "its record is damaged"
        damaged = [name for name, entry in files.items() if not _whole(folder, name, entry)]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "its record cannot be read"
    return f"{damaged[0]} is damaged" if damaged else None


def _whole(folder: Path, name: str, entry: Mapping[str, Any]) -> bool:
    """Whether a file is there as it was checked in: inside of the product, and no link to elsewhere."""
    file = folder / name
    if file.is_symlink() or not file.resolve().is_relative_to(folder.resolve()):
        return False
    if not file.is_file() or file.stat().st_size != entry["size"]:
        return False
    return bool(entry["size"] > _HASHED_ON_READ or digest_file(file) == entry["sha256"])


def read_record(folder: Path) -> Any:
    """The record in a product's folder, in any form. Raises OSError or ValueError where it cannot be read."""
    return json.loads(_record_file(folder).read_bytes())


def _record_file(folder: Path) -> Path:
    return folder / (RECORD if (folder / RECORD).exists() else _OLD_RECORD)
