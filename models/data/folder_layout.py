"""What lies in a folder of images, and which trees of folders cannot be understood in one way only."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from paredown.models.data.split_names import ALLOWED, split_of
from paredown.models.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
_TEXTS = {".txt", ".csv", ".json", ".xml", ".md", ".ini", ".db", ".yaml", ".yml", ".html"}
"""Files that nobody takes for images: they are passed over without a word."""
_SYSTEM = {"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found", "system volume information"}
"""Folders, in lower case, that archives and disks fill with thumbnails, remains and what was deleted."""


@dataclass(frozen=True)
class ClassFolder:
    """A folder that stands for one class: its images, also those of folders below, sorted, and how many files of each
    suffix in it are no images that are read."""

    folder: Path
    images: tuple[Path, ...]
    unread: Mapping[str, int]


def folders_in(base: Path) -> dict[str, Path]:
    """The folders in `base` by name, sorted; those whose name starts with . or _, and those of systems, are passed
    over."""
    folders = (path for path in sorted(base.iterdir()) if path.is_dir())
    return {path.name: path for path in folders if path.name[0] != "_" and not _is_hidden(path.name)}


def _is_hidden(name: str) -> bool:
    return name[0] == "." or name.lower() in _SYSTEM


def _below(folder: Path) -> Iterator[Path]:
    """All that lies anywhere below a folder, but for what is hidden and what hidden folders hold."""
    for path in folder.rglob("*"):
        if not any(map(_is_hidden, path.relative_to(folder).parts)):
            yield path


def list_class_folder(folder: Path) -> ClassFolder:
    """Everything below a class's folder. Raises InputError where it has files, and no image that can be read."""
    images: list[Path] = []
    unread: Counter[str] = Counter()
    for path in _below(folder):
        suffix = path.suffix.lower()
        if path.is_symlink() and path.is_dir():
            unread["that are links to folders"] += 1
        elif suffix in SUFFIXES:
            images.append(path)
        elif suffix in _TEXTS:
            continue
        elif path.is_file():
            unread[suffix or "without a suffix"] += 1
    if unread and not images:
        raise InputError(f"{folder}: no image that can be read, but {_counted(unread)}; allowed: {_allowed_suffixes()}")
    return ClassFolder(folder, tuple(sorted(images, key=str)), unread)


def unread_note(folders: Iterable[ClassFolder]) -> Iterator[str]:
    """A line on the files in class folders that are no images that are read, if there are any."""
    unread: Counter[str] = sum((Counter(one.unread) for one in folders), Counter())
    if unread:
        text = f"left out: {_counted(unread)} in the class folders, which are no images that can be read"
        yield f"{text} ({_allowed_suffixes()})"


def beside_note(base: Path) -> Iterator[str]:
    """A line on the images that lie in `base` itself, beside the folders that are read, if there are any."""
    beside = sorted(path.name for path in base.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    if beside:
        yield f"left out: {len(beside)} images that lie in {base} itself and in no class folder ({beside[0]})"


def holds_images(folder: Path) -> bool:
    """Whether an image lies in the folder or anywhere below."""
    return any(path.suffix.lower() in SUFFIXES for path in _below(folder))


def holds_class_folders(folder: Path) -> bool:
    """Whether an image lies in a folder of the folder."""
    return any(holds_images(inner) for inner in folders_in(folder).values())


def refuse_deeper_classes(one: ClassFolder, peers: Collection[str], listed: bool) -> None:
    """Raises InputError where what lies in a class's folder may be classes, or splits, itself.

    `peers` are the names of all folders of classes beside it. Images in folders below a class's folder belong to it,
    as long as it is clear that those are no classes: images lie beside them, or there is one such folder only.
    Where the classes are `listed` in the recipe it is clear too; splits inside of a class are refused all the same.
    """
    inner = {parent.relative_to(one.folder).parts for parent in {image.parent for image in one.images}}
    _refuse_inner_splits(one.folder, inner)
    if listed:
        return
    classes = _listing(peers)
    if repeated := sorted({name for parts in inner for name in parts} & set(peers) - {one.folder.name}):
        raise InputError(
            f"{one.folder}: holds folders that are named as classes beside it ({_few(repeated)}); allowed: "
            f"{_WANTED}; if images in them are of the class '{one.folder.name}', say so with data.classes: {classes}"
        )
    folder, depth = one.folder, 0
    while inner and all(len(parts) > depth for parts in inner):
        names = sorted({parts[depth] for parts in inner})
        if len(names) > 1:
            instead = f"write source: {folder}, " if len(peers) == 1 else ""
            raise InputError(
                f"{folder}: no image lies in it, but {len(names)} folders with images do ({_few(names)}); if those are "
                f"the classes, {instead}allowed is {_WANTED}; if they are not, say so with data.classes: {classes}"
            )
        folder, depth = folder / names[0], depth + 1


def _refuse_inner_splits(folder: Path, inner: Iterable[tuple[str, ...]]) -> None:
    for parts in sorted(inner):
        for depth, name in enumerate(parts):
            if split_of(name) is None:
                continue
            holder = folder.joinpath(*parts[:depth])
            seen = f"{holder}: holds the split folder '{name}'"
            if depth + 1 < len(parts):
                raise InputError(f"{seen}: write source: {holder}")
            base = folder.parent
            raise InputError(
                f"{seen}, but would be read as the class '{folder.name}' of {base}; allowed: {_WANTED}, such as "
                f"{base / name / folder.name}"
            )


_WANTED = "one folder per class, or split folders (train, val, test and their usual other names) with those"


def allowed_splits() -> str:
    """What split folders may be called."""
    return f"allowed names of split folders: {ALLOWED}, in any letter case"


def _listing(names: Collection[str]) -> str:
    return f"[{_few(sorted(names))}]"


def _few(names: Collection[str]) -> str:
    shown = list(names)[:5]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} files {suffix}" for suffix, count in sorted(counts.items()))


def _allowed_suffixes() -> str:
    return ", ".join(sorted(SUFFIXES))
