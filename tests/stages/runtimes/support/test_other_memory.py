"""How much memory is read between two runs, and by whom."""

from pathlib import Path

import pytest

from paredown.stages.runtimes.support import other_memory
from paredown.stages.runtimes.support.other_memory import (
    LEAST,
    MOST,
    UNKNOWN,
    cache_sizes,
    other_memory_size,
    reading_other_memory,
)

MIB = 2**20


@pytest.mark.parametrize(
    ("caches", "expected"),
    [
        ([], UNKNOWN),
        ([32 * 2**10, 512 * 2**10], LEAST),
        ([32 * 2**10, MIB, 32 * MIB], 64 * MIB),
        ([32 * 2**10, MIB, 96 * MIB], 192 * MIB),
        ([32 * 2**10, MIB, 128 * MIB], MOST),
        ([48 * 2**10, 2 * MIB, 480 * MIB], MOST),
    ],
)
def test_twice_the_largest_cache_within_bounds(caches: list[int], expected: int) -> None:
    assert other_memory_size(caches) == expected


def test_caches_of_instructions_and_of_unknown_size_do_not_count(tmp_path: Path) -> None:
    listed = [("Data", "48K"), ("Instruction", "64K"), ("Unified", "2M"), ("Unified", ""), ("Unified", "large")]
    for number, (kind, size) in enumerate(listed):
        cache = tmp_path / f"index{number}"
        cache.mkdir()
        (cache / "type").write_text(f"{kind}\n")
        (cache / "size").write_text(f"{size}\n")
    assert cache_sizes(tmp_path) == [48 * 2**10, 2 * MIB]
    assert cache_sizes(tmp_path / "no such folder") == []


@pytest.mark.parametrize("threads", [1, 3])
def test_every_thread_reads_all_of_it(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_memory, "other_memory_size", lambda caches: MIB)
    with reading_other_memory(threads) as read:
        assert read() == (MIB // 4 if threads == 1 else [MIB // 4] * threads)
