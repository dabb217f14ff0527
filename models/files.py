"""Files: their paths, their text and JSON within bounds, writing in one step, and digests."""

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paredown.models.errors import InputError, MissingError

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
"""What a pointer file starts with."""


def resolve_path(path: str, root: Path) -> Path:
    """`path` as an absolute path; a relative one starts at `root`, the recipe's folder."""
    return (root / Path(path).expanduser()).absolute()


def package_folder(name: str) -> Path:
    """The folder of an installed top-level package, found without importing (running) it.

    Raises MissingError where it is not installed.
    """
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise MissingError(f"the package '{name}' is not installed: pip install {name.replace('_', '-')}")
    return Path(next(iter(spec.submodule_search_locations)))


def is_file(path: Path) -> bool:
    """Whether a file can be opened there; False also for names that no file can have, and where one may not look."""
    try:
        return path.is_file()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """The same for a folder."""
    try:
        return path.is_dir()
    except OSError:
        return False


def read_text(path: Path, most: int) -> str:
    """A file's text. Raises InputError for what is no file (a pipe never ends), no UTF-8, or over `most` bytes."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path} cannot be read: it is no file")
        if status.st_size > most:
            raise InputError(f"{path} cannot be read: it has {status.st_size} bytes; allowed are {most}")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a text file in UTF-8") from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def read_json(path: Path, most: int) -> Any:
    """A file's JSON, in any form. Raises InputError as `read_text` does, and for what is no JSON."""
    try:
        return json.loads(read_text(path, most))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: no JSON that can be read ({type(error).__name__})") from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file in one step: others see the old one or the new one. What lies there as a symbolic link is replaced,
    and never followed."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    try:
        with fresh.open("xb") as stream:
            # Names may hold halves of characters, which UTF-8 cannot say.
            stream.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)  # there only where something went wrong


def refuse_pointer(path: Path) -> None:
    """Raises InputError where git-lfs left a pointer, some 130 bytes of text, in the place of a file; a path at which
    there is no file is let through."""
    if is_file(path):
        with path.open("rb") as stream:
            if stream.read(len(LFS_POINTER)) == LFS_POINTER:
                raise InputError(f"{path}: a pointer of git-lfs, not the file itself: run `git lfs pull` there")


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes, in hex. Raises OSError also for what is no file: a pipe never ends."""
    if not path.is_file() and path.exists():
        raise OSError(errno.EINVAL, "it is no file", str(path))
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of(parts: Mapping[str, object]) -> str:
    """sha256 over the parts as canonical JSON; raises TypeError for what JSON cannot say."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
