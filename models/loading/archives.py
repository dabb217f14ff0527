"""Zip archives of unknown origin, checked before anything is unpacked from them."""

import stat
import zipfile
from pathlib import Path

from paredown.models.errors import InputError
from paredown.models.loading.gzip_container import FREE, RATIO

MOST_ENTRIES = 100_000


def check_archive(path: Path) -> None:
    """Refuses a zip file that unpacks to far more than it holds, or has two entries of one name.

    What a reader makes of an entry that is longer than it says is the reader's own bound. Raises InputError.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path}: it is no file")
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: cannot be read as an archive ({error})") from error
    names = {entry.filename for entry in entries}
    if len(names) < len(entries) or len(entries) > MOST_ENTRIES:
        got = f"{len(entries)} entries of {len(names)} names"
        raise InputError(f"{path}: {got}; allowed are {MOST_ENTRIES}, each of a name of its own")
    unpacked, most = sum(entry.file_size for entry in entries), FREE + RATIO * path.stat().st_size
    if unpacked > most:
        raise InputError(f"{path}: it unpacks to {unpacked} bytes; allowed for a file of its size are {most}")
