"""Signatures beside an artifact: good for the very bytes and key, and for nothing else; openssl agrees."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from onnx import ModelProto

from paredown.models.errors import InputError, MissingError
from paredown.pipeline.artifact.signing import VARIABLE, check_signatures, public_key, sign_artifact, signatures
from paredown.pipeline.commands.sign import sign_verb
from paredown.stages.products.evidence import Evidence
from paredown.stages.products.manifest import DataRecord, Manifest, MeasureRatios, ModelOrigin, TargetRecord
from paredown.stages.products.parity import Parity

Keys = Callable[..., tuple[Path, Path]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model with its portable form and the manifest that describes both."""
    files = tmp_path / "model.onnx", tmp_path / "portable.onnx"
    for file in files:
        model = ModelProto(producer_name=file.stem)
        model.graph.name = "g"
        file.write_bytes(model.SerializeToString())
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    measured = Evidence(None, 1.0, 60.0, accuracy={}, images={}, runtime="exact 1", machine={})
    manifest = Manifest(
        paredown="0.1.0",
        model=ModelOrigin("net.py:net"),
        target=TargetRecord("exact"),
        data=DataRecord((), {}, ""),
        checks=(),
        baseline=measured,
        artifact=measured,
        ratios=MeasureRatios(1.0, 1.0, 1.0),
        parity=Parity(agreement=1.0, mean_difference=0.0, limit=0.95),
        sha256=digests,
    )
    manifest.save(tmp_path)
    return files[0]


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    """Writes a pair of keys: private, public."""
    pytest.importorskip("cryptography", reason='pip install "paredown[sign]"')
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    def write(name: str = "key", passphrase: str = "", kind: str = "elliptic") -> tuple[Path, Path]:
        key: Any = (
            ec.generate_private_key(ec.SECP256R1()) if kind == "elliptic" else ed25519.Ed25519PrivateKey.generate()
        )
        lock = form.BestAvailableEncryption(passphrase.encode()) if passphrase else form.NoEncryption()
        pem, public = form.Encoding.PEM, key.public_key()
        files = tmp_path / f"{name}.pem", tmp_path / f"{name}-public.pem"
        files[0].write_bytes(key.private_bytes(pem, form.PrivateFormat.PKCS8, lock))
        files[1].write_bytes(public.public_bytes(pem, form.PublicFormat.SubjectPublicKeyInfo))
        return files

    return write


def test_all_files_of_an_artifact_are_signed(model: Path, keys: Keys) -> None:
    private, public = keys()
    assert signatures(model) == ()
    made = sign_artifact(model, private)
    assert [path.name for path in made] == ["model.onnx.sig", "portable.onnx.sig", "manifest.json.sig"]
    assert signatures(model) == made
    assert [path.name for path in check_signatures(model, public)] == ["model.onnx", "portable.onnx", "manifest.json"]


def test_openssl_says_the_same(model: Path, keys: Keys) -> None:
    if not (openssl := shutil.which("openssl")):
        pytest.skip("openssl is not installed")
    private, public = keys()
    sign_artifact(model, private)
    check = [openssl, "dgst", "-sha256", "-verify", str(public), "-signature", f"{model}.sig", str(model)]
    assert "Verified OK" in subprocess.run(check, capture_output=True, text=True, check=True).stdout
    by_hand = [openssl, "dgst", "-sha256", "-sign", str(private), "-out", f"{model}.sig", str(model)]
    subprocess.run(by_hand, check=True)
    assert check_signatures(model, public)


@pytest.mark.parametrize("name", ["model.onnx", "portable.onnx", "manifest.json"])
def test_one_changed_byte_is_found(model: Path, keys: Keys, name: str) -> None:
    private, public = keys()
    sign_artifact(model, private)
    file = model.with_name(name)
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(InputError, match=r"not the signature of|describes another file"):
        check_signatures(model, public)


def test_a_changed_manifest_is_found_by_its_signature_alone(model: Path, keys: Keys) -> None:
    private, public = keys()
    sign_artifact(model, private)
    manifest = model.with_name("manifest.json")
    manifest.write_text(manifest.read_text().replace("exact 1", "exact 2"))
    with pytest.raises(InputError, match=r"manifest\.json\.sig: not the signature of manifest\.json with the key"):
        check_signatures(model, public)


def test_another_key_is_found(model: Path, keys: Keys) -> None:
    private, _ = keys()
    _, other = keys("other")
    sign_artifact(model, private)
    with pytest.raises(
        InputError, match=r"model\.onnx\.sig: not the signature of model\.onnx with the key .*other-pub"
    ):
        check_signatures(model, other)


@pytest.mark.parametrize("content", [b"", b"no signature"])
def test_a_missing_or_damaged_signature_is_found(model: Path, keys: Keys, content: bytes) -> None:
    private, public = keys()
    sign_artifact(model, private)
    model.with_name("portable.onnx.sig").write_bytes(content)
    with pytest.raises(InputError, match="not the signature of portable"):
        check_signatures(model, public)
    model.with_name("portable.onnx.sig").unlink()
    with pytest.raises(InputError, match=r"portable\.onnx: not signed; portable\.onnx\.sig is not beside it"):
        check_signatures(model, public)


def test_a_file_without_a_manifest_is_signed_alone(model: Path, keys: Keys, tmp_path: Path) -> None:
    alone = tmp_path / "alone" / "model.onnx"
    alone.parent.mkdir()
    shutil.copyfile(model, alone)
    private, public = keys()
    assert [path.name for path in sign_artifact(alone, private)] == ["model.onnx.sig"]
    assert check_signatures(alone, public) == (alone,)


def test_false_evidence_is_not_signed(model: Path, keys: Keys) -> None:
    private, _ = keys()
    model.write_bytes(model.read_bytes() + b"\x08\x0a")
    with pytest.raises(InputError, match="describes another file"):
        sign_artifact(model, private)
    assert signatures(model) == ()


def test_a_passphrase_is_taken_and_told(model: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    private, public = keys(passphrase="open sesame")
    arguments = [str(model), "--key", str(private)]
    for value, complaint in ((None, rf"--ask asks for it, {VARIABLE} may hold it"), ("wrong", "another passphrase")):
        if value:
            monkeypatch.setenv(VARIABLE, value)
        with pytest.raises(InputError, match=complaint):
            CliRunner().invoke(sign_verb, arguments, catch_exceptions=False)
    done = CliRunner().invoke(sign_verb, [*arguments, "--ask"], input="open sesame\n", catch_exceptions=False)
    assert done.stdout.split() == [str(path) for path in signatures(model)]
    assert check_signatures(model, public)


def test_other_keys_are_refused_in_one_line(model: Path, keys: Keys, tmp_path: Path) -> None:
    private, public = keys(kind="edwards")
    for key, complaint in ((private, "an Ed25519PrivateKey; allowed"), (public, "no such key"), (model, "no such key")):
        with pytest.raises(InputError, match=complaint) as caught:
            sign_artifact(model, key)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"gone\.pem cannot be read: No such file"):
        public_key(tmp_path / "gone.pem")
    with pytest.raises(InputError, match=r"no such key.*allowed: a public elliptic key"):
        check_signatures(model, keys()[0])


def test_without_the_package_the_command_is_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(MissingError, match=r'not installed: pip install "paredown\[sign\]"'):
        sign_artifact(model, model)
