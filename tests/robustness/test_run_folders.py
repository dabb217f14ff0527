"""Run folders and stores that somebody else filled: shown, or refused in one line; nothing outside is touched."""

import copy
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from paredown.pipeline.recipe.recipe import load_recipe
from paredown.pipeline.report.closing_table import closing_table
from paredown.pipeline.report.plan_rows import budget_rows, read_plan, site_rows
from paredown.pipeline.report.report import render_report
from paredown.pipeline.run.product_record import RECORD, record_sum
from paredown.pipeline.run.run_folder import as_damage
from paredown.pipeline.run.store import ProductStore
from paredown.pipeline.sparseml.exporter import export_recipe
from paredown.stages.base import State
from paredown.stages.limits import Limits
from paredown.stages.products.product_files import PRODUCTS

ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**70, 1e308, float("nan"), float("inf"), "", "x", [], {}, [[]], {"a": {}}, [None] * 3),
    *("<script>alert(1)</script>", "\x1b[2J", "\ud800", "a\nb", "../../etc/passwd", "x" * 5000, '"></svg><b>'),
)
RECIPE = """\
model: {source: "net.py:net"}
data: {source: images.npz, image_size: 24}
limits: {size: 0.6x}
"""


@pytest.fixture
def folder(finished: State, tmp_path: Path) -> Path:
    """A copy of a whole run's folder, with a recipe beside it."""
    shown = tmp_path / "runs" / "demo"
    for name in PRODUCTS:
        if name in finished.products:
            shutil.copytree(finished.product(name), shown / name)
    (shown / "timings.json").write_text('{"search": 1.5}')
    (tmp_path / "demo.yaml").write_text(RECIPE)
    return shown


def shown(folder: Path) -> None:
    """Everything that reads a run's documents."""
    closing_table(folder)
    page = render_report(folder).read_text()
    assert "<script>alert" not in page
    assert "</svg><b>" not in page
    with as_damage(folder):
        plan = read_plan(folder)
        assert isinstance([budget_rows(plan, Limits()), site_rows(plan)], list)


def inner(data: Any, rng: random.Random) -> tuple[Any, Any]:
    """A list or mapping somewhere in a document, and a place in it."""
    while True:
        keys = list(data) if isinstance(data, dict) else list(range(len(data)))
        key = rng.choice(keys)
        if not isinstance(data[key], dict | list) or not data[key] or rng.random() < 0.15:
            return data, key
        data = data[key]


def changed(text: str, rng: random.Random) -> str:
    data = json.loads(text)
    for _ in range(rng.choice([1, 1, 2, 4])):
        if not data:
            break
        place, key = inner(data, rng)
        way = rng.random()
        if way < 0.25:
            del place[key]
        elif way < 0.35 and isinstance(place, dict):
            place[str(rng.choice(ODD))] = place[key]
        else:
            place[key] = copy.deepcopy(rng.choice(ODD))  # a list put in twice could come to hold itself
    return json.dumps(data)


def written_documents(folder: Path) -> list[Path]:
    files = [folder / name / product.document for name, product in PRODUCTS.items() if product.document]
    return [file for file in (*files, folder / "timings.json") if file.is_file()]


def test_changed_documents(folder: Path, fuzz: Any) -> None:
    files = written_documents(folder)
    texts = {file: file.read_text() for file in files}
    assert len(files) >= 6

    def attempt(seed: int) -> None:
        rng = random.Random(seed)
        file = rng.choice(files)
        file.write_text(changed(texts[file], rng))
        try:
            shown(folder)
        finally:
            file.write_text(texts[file])

    shown(folder)
    fuzz(st.integers(0, 2**32), 250, attempt)


def test_changed_plans_are_exported_or_refused(folder: Path, fuzz: Any) -> None:
    file, recipe = folder / "plan" / "plan.json", folder.parent.parent / "demo.yaml"
    text, loaded = file.read_text(), load_recipe(recipe)

    def attempt(seed: int) -> None:
        file.write_text(changed(text, random.Random(seed)))
        export_recipe(loaded, recipe, folder.parent, "epoch")

    fuzz(st.integers(0, 2**32), 60, attempt)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b"9" * 5000, b'"x"', b"null", b"{}", b"[]"])
def test_documents_that_are_none(content: bytes, folder: Path, command: Any) -> None:
    for file in written_documents(folder):
        kept = file.read_bytes()
        file.write_bytes(content)
        for verb in ("report", "export-recipe"):
            code, err = command(verb, folder.parent.parent / "demo.yaml", "--out", folder.parent)
            assert code in (0, 2), f"{file}: {err}"
            assert code == 0 or err.count("\n") == 1
        file.write_bytes(kept)


def test_a_document_without_end(folder: Path, peak_of: Any) -> None:
    os.truncate(folder / "plan" / "plan.json", 2**33)
    answer, more = peak_of(lambda: shown(folder))
    assert answer == "refused"
    assert more < 30


def test_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    """Neither what is read into the report, nor where it is written."""
    secret, kept = tmp_path / "secret", tmp_path / "kept"
    secret.write_text("the secret\n")
    kept.write_text("kept")
    (folder / "plan" / "limit.txt").symlink_to(secret)
    (folder / "plan" / "notes.txt").symlink_to(secret)
    for name in ("report.html", ".report.html.new", f".report.html.{os.getpid()}.new"):
        (folder / name).symlink_to(kept)
    page = render_report(folder).read_text()
    assert "the secret" not in page
    assert kept.read_text() == "kept"
    assert not (folder / "report.html").is_symlink()


KEY = "a" * 64


@pytest.fixture
def stored(tmp_path: Path) -> tuple[ProductStore, Callable[[Any], None]]:
    """A store, and what writes the record of its one product with a sum that fits."""
    store = ProductStore(tmp_path / "runs" / ".store")
    (store.work(KEY) / "value").write_text("1")
    place = store.commit(KEY)

    def write(files: Any, **more: Any) -> None:
        record = {"key": KEY, "seconds": 1, "files": files, "check": record_sum(KEY, files), **more}
        (place / RECORD).write_text(json.dumps(record))

    return store, write


def test_changed_records(stored: Any, fuzz: Any) -> None:
    store, write = stored
    file = store.get(KEY) / RECORD
    text = file.read_text()

    def attempt(seed: int) -> None:
        rng = random.Random(seed)
        if rng.random() < 0.5:
            file.write_text(changed(text, rng))
        else:
            data = json.loads(changed(text, rng))
            write(data.get("files") if isinstance(data, dict) else data)
        store.get(KEY, repair=False)
        store.published(file.parent)

    fuzz(st.integers(0, 2**32), 150, attempt)


def test_records_that_name_files_elsewhere(stored: Any, tmp_path: Path) -> None:
    """A product is never called whole because of a file that is not in it."""
    store, write = stored
    place = store.get(KEY)
    digest = json.loads((place / RECORD).read_text())["files"]["value"]
    (tmp_path / "outside").write_text("1")
    (place / "link").symlink_to(tmp_path / "outside")
    for name in ("../../../../../outside", str(tmp_path / "outside"), "link"):
        write({name: digest})
        assert store.get(KEY, repair=False) is None
    write({"value": digest})
    assert store.get(KEY) == place


def test_the_lock_is_not_taken_through_a_link(tmp_path: Path, command: Any) -> None:
    (tmp_path / "kept").write_text("kept")
    store = ProductStore(tmp_path / "runs" / ".store")
    store.folder.mkdir(parents=True)
    (store.folder / "lock").symlink_to(tmp_path / "kept")
    with pytest.raises(Exception, match="lock"), store.lock():
        pass
    assert (tmp_path / "kept").read_text() == "kept"
