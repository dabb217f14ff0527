"""Transforms by what recipes and sites name."""

from pathlib import Path

import pytest

from paredown.stages.transforms.loading import UnknownTransform, load_transforms, needed_products, transform_of
from paredown.stages.transforms.narrow import Narrow
from paredown.stages.transforms.quantize import Quantize
from paredown.stages.transforms.sparsify import Sparsify


def test_transforms_are_applied_in_their_own_order_and_else_in_the_recipes() -> None:
    names = ("quantize", "sparsify", "narrow", "resize", "substitute")
    assert list(load_transforms({name: {} for name in names}, Path())) == [
        "substitute",
        "narrow",
        "resize",
        "sparsify",
        "quantize",
    ]


def test_what_transforms_need_is_known_without_their_options() -> None:
    assert needed_products(["narrow", "substitute"], Path()) == ("library",)
    assert needed_products(["narrow", "no_such_transform"], Path()) == ()


def test_a_sites_transform_is_found_by_its_name() -> None:
    assert transform_of("narrow:block.conv1") is Narrow
    assert transform_of("narrow:block.conv1").change_kind("64", "48") == "narrower"
    assert transform_of("quantize:fc").change_kind("fp32", "int8") == "fp32 to int8"
    assert transform_of("sparsify:fc") is Sparsify and transform_of("quantize:fc") is Quantize


@pytest.mark.parametrize("site", ["other:fc", "", ":", "base:fc", "loading:fc", "../evil:fc"])
def test_a_site_of_no_known_transform_gets_the_defaults(site: str) -> None:
    assert transform_of(site) is UnknownTransform
    assert UnknownTransform.change_kind("a", "b") == "changed otherwise" and UnknownTransform.describe("a", "b") is None


def test_a_site_never_runs_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil.py").write_text("raise AssertionError('it was run')\nPLUGIN = None\n")
    monkeypatch.chdir(tmp_path)
    assert transform_of("evil.py:fc") is UnknownTransform
