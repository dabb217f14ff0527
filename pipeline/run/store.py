"""Products by content: a key is a digest of all that decides the product, and a product is all or nothing.

A product is made in `work/<key>`, checked in with a record of its files, and renamed to `objects/<2 digits>/<key>` in
one step, so that a kill at any moment leaves either the whole product or only scratch files.
"""

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from paredown.models.errors import MachineError
from paredown.models.printable import harmless
from paredown.pipeline.machine_errors import machine_errors
from paredown.pipeline.run.product_record import RECORD, read_record, record_fault, record_text


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
            fault = record_fault(folder, key)
            if fault and repair:
                self._set_aside(folder, fault)
        return None if fault else folder

    def commit(self, key: str, seconds: float = 0.0) -> Path:
        """Checks the scratch folder in as the product and returns its place; `seconds` is what it took.

        Raises InputError where the stage wrote a file of the record's name.
        """
        work, place = self.folder / "work" / key, self._object(key)
        with machine_errors(work):
            _write_synced(work / RECORD, record_text(work, key, seconds))
            _sync_tree(work)
            place.parent.mkdir(parents=True, exist_ok=True)
            work.rename(place)
            for folder in (place.parent, place.parent.parent, work.parent):
                _sync(folder)
        return place

    def seconds(self, key: str) -> float:
        """How long the product took to make."""
        return float(read_record(self._object(key))["seconds"])

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
            return str(read_record(link)["key"])
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
