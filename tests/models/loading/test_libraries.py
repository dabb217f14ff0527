"""torchvision is imported also where its compiled operators do not load."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paredown.models.loading import libraries
from paredown.models.loading.libraries import quiet_torchvision


def _fake_torch(loads: bool) -> Any:
    defined: list[str] = []

    def load_library(path: str) -> None:
        if not loads:
            raise OSError("undefined symbol")
        defined.append("nms")

    class Operators:
        def __getattr__(self, name: str) -> object:
            if name in defined:
                return object()
            raise AttributeError(name)

    def library(namespace: str, kind: str) -> Any:
        return SimpleNamespace(define=lambda schema: defined.append(schema.partition("(")[0]))

    ops = SimpleNamespace(load_library=load_library, torchvision=Operators())
    return SimpleNamespace(ops=ops, library=SimpleNamespace(Library=library), defined=defined)


@pytest.mark.parametrize(("loads", "defined"), [(True, ["nms"]), (False, ["nms", "qnms"])])
def test_operators_are_declared_only_where_the_compiled_ones_do_not_load(
    loads: bool, defined: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_C.so").write_bytes(b"")
    fake = _fake_torch(loads)
    monkeypatch.setattr(libraries, "import_module", lambda name: fake)
    monkeypatch.setattr(libraries, "find_spec", lambda name: SimpleNamespace(submodule_search_locations=[tmp_path]))
    quiet_torchvision.__wrapped__()
    assert fake.defined == defined
