"""The store: keys, manifests, links."""

import os
from pathlib import Path

import pytest

from paredown.models.errors import MachineError
from paredown.models.files import digest_of
from paredown.pipeline.run.store import ProductStore

KEY = digest_of({"stage": "a"})


@pytest.fixture
def store(tmp_path: Path) -> ProductStore:
    return ProductStore(tmp_path / "runs" / ".store")


def fill(store: ProductStore, value: str = "1") -> Path:
    work = store.work(KEY)
    (work / "inner").mkdir(exist_ok=True)
    (work / "inner" / "value").write_text(value)
    return work


def test_keys_depend_on_content_not_on_order() -> None:
    assert digest_of({"a": 1, "b": [1, {"c": None}]}) == digest_of({"b": [1, {"c": None}], "a": 1})
    different: list[dict[str, object]] = [
        {"a": 1},
        {"a": 1.5},
        {"a": "1"},
        {"a": [1]},
        {"b": 1},
        {"a": True},
        {"a": None},
        {},
    ]
    assert len({digest_of(parts) for parts in different}) == len(different)
    with pytest.raises(TypeError):
        digest_of({"a": object()})
    with pytest.raises(ValueError, match="Out of range"):
        digest_of({"a": float("nan")})


def test_a_product_is_there_only_after_commit(store: ProductStore) -> None:
    assert store.get(KEY) is None
    work = fill(store)
    assert store.get(KEY) is None
    assert store.work(KEY) == work, "a second start finds the same scratch folder"
    place = store.commit(KEY, seconds=1.5)
    assert store.get(KEY) == place
    assert (place / "inner" / "value").read_text() == "1"
    assert store.seconds(KEY) == 1.5
    assert not work.exists()


def test_an_empty_product_can_be_kept(store: ProductStore) -> None:
    store.work(KEY)
    assert store.get(KEY) is None
    assert store.commit(KEY) == store.get(KEY)


def test_publish_replaces_and_unpublish_keeps_the_product(store: ProductStore, tmp_path: Path) -> None:
    link, other = tmp_path / "runs" / "demo" / "a", digest_of({"stage": "b"})
    fill(store)
    store.commit(KEY)
    store.publish(KEY, link)
    assert store.published(link) == KEY
    (store.work(other) / "value").write_text("2")
    store.commit(other)
    store.publish(other, link)
    assert store.published(link) == other
    assert (link / "value").read_text() == "2"
    store.unpublish(link)
    assert store.published(link) is None
    assert not link.is_symlink()
    assert store.get(other) is not None


def test_links_survive_moving_the_folder(store: ProductStore, tmp_path: Path) -> None:
    fill(store)
    store.commit(KEY)
    store.publish(KEY, tmp_path / "runs" / "demo" / "a")
    (tmp_path / "runs").rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "demo" / "a" / "inner" / "value").read_text() == "1"


def test_without_symbolic_links_products_are_copied(
    store: ProductStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no links here")

    link = tmp_path / "runs" / "demo" / "a"
    fill(store)
    store.commit(KEY)
    store.publish(KEY, link)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    for _ in range(2):
        store.publish(KEY, link)
        assert not link.is_symlink()
        assert (link / "inner" / "value").read_text() == "1"
        assert store.published(link) == KEY
    monkeypatch.undo()
    store.publish(KEY, link)
    assert link.is_symlink()


def test_damage_is_set_aside_and_told(store: ProductStore, capsys: pytest.CaptureFixture[str]) -> None:
    for value in ("7", "8"):
        fill(store)
        place = store.commit(KEY)
        (place / "inner" / "value").write_text(value)
        assert store.get(KEY, repair=False) is None
        assert place.exists(), "without repair nothing is touched"
        assert store.get(KEY) is None
        assert not place.exists()
        assert "inner/value is damaged" in capsys.readouterr().err
    kept = sorted(file.read_text() for file in store.folder.glob("damaged/*/inner/value"))
    assert kept == ["7", "8"]


def test_a_large_file_is_checked_by_its_size(store: ProductStore) -> None:
    big = store.work(KEY) / "big"
    with big.open("wb") as file:
        file.truncate(65 * 2**20)
    place = store.commit(KEY)
    assert store.get(KEY) == place
    os.truncate(place / "big", 65 * 2**20 - 1)
    assert store.get(KEY) is None


def test_a_product_under_another_key_is_not_taken(store: ProductStore) -> None:
    fill(store)
    place, other = store.commit(KEY), digest_of({"stage": "b"})
    (store.folder / "objects" / other[:2]).mkdir(parents=True, exist_ok=True)
    place.rename(store.folder / "objects" / other[:2] / other)
    assert store.get(other) is None


def test_the_lock_is_held_once(store: ProductStore) -> None:
    with store.lock(), pytest.raises(MachineError, match=r"another run is going on in .*runs$"), store.lock():
        pass
    with store.lock():
        pass
