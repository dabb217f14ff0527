"""torchvision is imported also where its compiled operators do not load."""

import socket
import socketserver
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from paredown.models.errors import InputError
from paredown.models.loading import libraries
from paredown.models.loading.libraries import download_weights, quiet_torchvision, why_unreachable


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


@pytest.mark.parametrize("source", ["timm/resnet18", "torchvision/resnet18"])
def test_weights_of_the_hub_fail_at_once_without_a_network(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet_torchvision()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        download_weights(source)
    assert time.monotonic() - start < 10
    text = str(caught.value)
    assert f"model '{source}': no pretrained weights to be had: https://" in text
    assert "cannot be reached (" in text and "\n" not in text


def test_a_host_that_answers_anything_can_be_reached() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), _Forbids) as server:
        Thread(target=server.handle_request, daemon=True).start()
        assert why_unreachable(f"http://127.0.0.1:{server.server_address[1]}") == ""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert why_unreachable(f"http://127.0.0.1:{mute.getsockname()[1]}", 0.2) in (
            "timed out",
            "no answer within 0.2 s",
        )


class _Forbids(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(403)

    def log_message(self, *_: object) -> None: ...
