"""Checkpoints of strangers give tensors or one line; no code in them runs, none takes memory or time without end."""

import io
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from paredown.models.loading.checkpoint import fit_state, read_state
from paredown.models.loading.model import load_model
from paredown.models.loading.spec import ModelSpec

NAMES = ("new.pth", "old.pth", "one.safetensors")
NET = "from torch import nn\n\n\ndef net(classes):\n    return nn.Linear(4, classes)\n"


@pytest.fixture
def contents(tmp_path: Path) -> dict[str, bytes]:
    """The same small state in torch's two formats and in safetensors'."""
    state = nn.Linear(4, 3).state_dict()
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "new.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "one.safetensors")
    return {name: (tmp_path / name).read_bytes() for name in NAMES}


def read_and_fitted(path: Path) -> None:
    fit_state(nn.Linear(4, 3), read_state(path), 3, "keep", str(path))


@pytest.mark.parametrize("name", NAMES)
def test_changed_bytes(name: str, contents: dict[str, bytes], fuzz: Any, tmp_path: Path) -> None:
    def attempt(seed: int) -> None:
        rng, content = random.Random(seed), bytearray(contents[name])
        for _ in range(rng.choice([1, 1, 3])):
            at = rng.randrange(len(content))
            if rng.random() < 0.8:
                content[at] = rng.randrange(256)
            else:
                del content[at : at + rng.choice([1, 8, 10**6])]
                content += b" " * (not content)
        (tmp_path / name).write_bytes(content)
        read_and_fitted(tmp_path / name)

    read_and_fitted(tmp_path / name)
    fuzz(st.integers(0, 2**32), 120, attempt)


def test_any_bytes(fuzz: Any, refused: Any, tmp_path: Path) -> None:
    def attempt(content: bytes) -> None:
        for name in NAMES:
            (tmp_path / name).write_bytes(content)
            assert str(tmp_path / name) in refused(lambda name=name: read_state(tmp_path / name))

    fuzz(st.binary(max_size=200), 60, attempt)


class Evil:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return Path.write_text, (self.target, "ran")


@pytest.mark.parametrize("new", [True, False])
def test_code_does_not_run(new: bool, refused: Any, tmp_path: Path) -> None:
    path, ran = tmp_path / "evil.pth", tmp_path / "ran"
    torch.save({"w": torch.ones(2), "more": Evil(ran)}, path, _use_new_zipfile_serialization=new)
    assert "holds more than tensors, which is never loaded" in refused(lambda: read_state(path))
    path.write_bytes(pickle.dumps(Evil(ran)))
    refused(lambda: read_state(path))
    (tmp_path / "net.py").write_text(NET)
    spec = ModelSpec(source="net.py:net", weights="evil.pth")
    refused(lambda: load_model(spec, 3, tmp_path, head="keep"))
    assert not ran.exists()


def rewritten(content: bytes, change: Callable[[str, bytes], tuple[str, bytes]], pack: int = 0) -> bytes:
    """A zip archive with every entry made into another one."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w", pack) as new:
        for name in old.namelist():
            new.writestr(*change(name, old.read(name)))
    return stream.getvalue()


def test_a_pickle_that_is_never_hashed_to_the_end(contents: dict[str, bytes], refused: Any, tmp_path: Path) -> None:
    """Tuples of tuples as a key: 130 bytes, 2**60 steps."""
    trap = b"\x80\x02}K\x01\x85q\x02" + b"h\x02\x86q\x02" * 60 + b"K\x01s."
    path = tmp_path / "trap.pth"
    path.write_bytes(trap)
    assert "nests tuples more than 16 times" in refused(lambda: read_state(path))

    def trapped(name: str, held: bytes) -> tuple[str, bytes]:
        return name, trap if name.endswith("data.pkl") else held

    path.write_bytes(rewritten(contents["new.pth"], trapped))
    assert "nests tuples more than 16 times" in refused(lambda: read_state(path))
    path.write_bytes(trap + contents["new.pth"])  # an archive for some readers, a pickle for others
    assert "nests tuples more than 16 times" in refused(lambda: read_state(path))


def test_an_archive_that_unpacks_to_gigabytes(contents: dict[str, bytes], peak_of: Any, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pth"
    huge = bytes(2**28)
    path.write_bytes(
        rewritten(
            contents["new.pth"],
            lambda name, held: (name, huge if "data/" in name and name[-1].isdigit() else held),
            zipfile.ZIP_DEFLATED,
        )
    )
    assert path.stat().st_size < 2**20
    answer, more = peak_of(lambda: read_state(path))
    assert answer == "refused"
    assert more < 30


def test_names_that_lead_elsewhere_and_names_given_twice(
    contents: dict[str, bytes], refused: Any, tmp_path: Path
) -> None:
    path = tmp_path / "inside" / "odd.pth"
    path.parent.mkdir()
    path.write_bytes(rewritten(contents["new.pth"], lambda name, held: (f"../{name.rpartition('/')[2]}", held)))
    refused(lambda: read_state(path))
    with pytest.warns(UserWarning, match="Duplicate name"):
        path.write_bytes(rewritten(contents["new.pth"], lambda name, held: (f"a/{name[-1]}", held)))
    assert "each of a name of its own" in refused(lambda: read_state(path))
    assert not list(tmp_path.glob("data*"))


def test_more_numbers_than_there_are(contents: dict[str, bytes], refused: Any, tmp_path: Path) -> None:
    path = tmp_path / "lie.pth"
    lie = rewritten(contents["new.pth"], lambda name, held: (name, held.replace(b"K\x0c", b"J\x00\x00\x10\x00")))
    path.write_bytes(lie)
    refused(lambda: read_state(path))


def test_one_number_shown_as_a_billion(refused: Any, tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1).expand(2**30), "bias": torch.ones(3)}, tmp_path / "wide.pth")
    assert "wrong shape" in refused(lambda: read_and_fitted(tmp_path / "wide.pth"))


def test_what_is_no_file(refused: Any, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "folder.pth").mkdir()
    (tmp_path / "loop.pth").symlink_to("loop.pth")
    (tmp_path / "zero.pth").symlink_to("/dev/zero")
    for name in ("pipe.pth", "folder.pth", "loop.pth", "zero.pth", "none.pth", f"{'a' * 300}.pth", "a\0b.pth"):
        spec = ModelSpec(source="net.py:net", weights=name)
        assert "no such weights file" in refused(lambda spec=spec: load_model(spec, 3, tmp_path, head="keep"))
