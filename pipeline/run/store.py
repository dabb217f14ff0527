"""Products by content: a key is a digest of all that decides the product, and a product is all or nothing.

A product is made in `work/<key>`, checked in with a record of its files, and renamed to `objects/<2 digits>/<key>` in
one step, so that a kill at any moment leaves either the whole product or only scratch files.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paredown.models.errors import InputError, MachineError
from paredown.models.files import digest_file
from paredown.models.printable import harmless
from paredown.pipeline.machine_errors import machine_errors

RECORD = "stored.json"
"""In a product's folder: its key, its seconds, and the sha256 of its files. No stage may write a file of that name, nor
one that differs from it by case only: file systems that ignore case would keep just one of the two."""
_OLD_RECORD = "MANIFEST.json"
"""The name that older versions gave it. Their links are still seen, so that they can be taken away."""
_HASHED_ON_READ = 64 * 2**20
"""Bytes; larger files are checked by their size only when a product is read again."""


@dataclass(frozen=True)
class ProductStore:
    """The store in `folder`. Everything that it cannot write is a MachineError."""

    folder: Path

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held by one run at a time; the system lets go of it when the process ends, however it ends."""
        with machine_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            file = os.fdopen(os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise MachineError(f"another run is going on in {self.folder.parent}") from error
            yield

    def work(self, key: str) -> Path:
        """The scratch folder of a product in the making; it survives a kill."""
        folder = self.folder / "work" / key
        with machine_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def get(self, key: str, repair: bool = True) -> Path | None:
        """The product's folder, or None. A damaged one counts as missing; `repair` moves it away."""
        folder = self._object(key)
        with machine_errors(folder):
            if not folder.is_dir():
                return None
            fault = _fault(folder, key)
            if fault and repair:
                self._set_aside(folder, fault)
        return None if fault else folder

    def commit(self, key: str, seconds: float = 0.0) -> Path:
        """Checks the scratch folder in as the product and returns its place; `seconds` is what it took.

        Raises InputError where the stage wrote a file of the record's name.
        """
        work, place = self.folder / "work" / key, self._object(key)
        with machine_errors(work):
            _refuse_record(work)
            record = _describe(work, key, seconds)
            _write_synced(work / RECORD, json.dumps(record, indent=1, sort_keys=True))
            _sync_tree(work)
            place.parent.mkdir(parents=True, exist_ok=True)
            work.rename(place)
            for folder in (place.parent, place.parent.parent, work.parent):
                _sync(folder)
        return place

    def seconds(self, key: str) -> float:
        """How long the product took to make."""
        return float(_record(self._object(key))["seconds"])

    def publish(self, key: str, link: Path) -> None:
        """Makes `link` show the product, replacing what it showed before in one step."""
        product, fresh = self._object(key), link.with_name(f".{link.name}.new")
        with machine_errors(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            _remove(fresh)
            try:
                fresh.symlink_to(os.path.relpath(product, link.parent), target_is_directory=True)
            except OSError:  # file systems without symbolic links get a copy
                shutil.copytree(product, fresh)
            if not fresh.is_symlink() or not link.is_symlink():
                _remove(link)  # a folder cannot be replaced in one step
            fresh.replace(link)
            _sync(link.parent)

    def published(self, link: Path) -> str | None:
        """The key of the product that `link` shows, or None."""
        try:
            return str(_record(link)["key"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def unpublish(self, link: Path) -> None:
        """Takes away what `publish` made; the product stays in the store."""
        with machine_errors(link):
            _remove(link)

    def _object(self, key: str) -> Path:
        return self.folder / "objects" / key[:2] / key

    def _set_aside(self, folder: Path, fault: str) -> None:
        aside = self.folder / "damaged"
        aside.mkdir(exist_ok=True)
        number = sum(1 for _ in aside.iterdir())
        folder.rename(aside / f"{folder.name}-{number}")
        print(harmless(f"warning: {folder}: {fault}; moved to {aside}, making it again"), file=sys.stderr)


def digests(product: Path) -> dict[str, str]:
    """File to sha256 of a product, as noted when it was checked in; empty where the product is not there."""
    listed = _record(product)["files"] if _record_file(product).exists() else {}
    return {name: entry["sha256"] for name, entry in sorted(listed.items())}


def _refuse_record(work: Path) -> None:
    for file in work.iterdir():
        if file.name.casefold() == RECORD:
            raise InputError(f"{file}: the stage wrote a file of this name, under which the store keeps its own")


def _describe(folder: Path, key: str, seconds: float) -> dict[str, Any]:
    files = {
        str(file.relative_to(folder)): {"sha256": digest_file(file), "size": file.stat().st_size}
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
    return {"key": key, "seconds": round(seconds, 3), "files": files, "check": _check(key, files)}


def _check(key: str, files: Mapping[str, object]) -> str:
    """Digest of the record itself, so that a damaged record is noticed too."""
    return hashlib.sha256(json.dumps([key, files], sort_keys=True).encode()).hexdigest()


def _fault(folder: Path, key: str) -> str | None:
    """What is wrong with a stored product; None when it is whole."""
    try:
        record = _record(folder)
        files = record["files"]
        if record["key"] != key or record["check"] != _check(key, files):
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


def _record(folder: Path) -> Any:
    return json.loads(_record_file(folder).read_bytes())


def _record_file(folder: Path) -> Path:
    return folder / (RECORD if (folder / RECORD).exists() else _OLD_RECORD)


def _write_synced(file: Path, text: str) -> None:
    with file.open("w") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())


def _sync_tree(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
