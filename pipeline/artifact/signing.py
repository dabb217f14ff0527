"""Signatures beside an artifact's files: ECDSA over SHA-256 with a key of one's own.

`FILE.sig` signs the bytes of `FILE`, as `openssl dgst -sha256` does and checks. The one file that imports the package
`cryptography`; no network is used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from paredown.models.errors import InputError, MissingError
from paredown.models.files import digest_file, write_whole
from paredown.pipeline.artifact.artifact import manifest_beside
from paredown.pipeline.machine_errors import machine_errors
from paredown.stages.products.manifest import Manifest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

SUFFIX = ".sig"
VARIABLE = "PAREDOWN_KEY_PASSPHRASE"
"""Of the environment; it may hold the passphrase of a key."""
PORTABLE = "portable.onnx"
PRIVATE = "a private elliptic key (PEM), as made by: openssl ecparam -name prime256v1 -genkey -noout -out key.pem"
PUBLIC = "a public elliptic key (PEM), as made by: openssl ec -in key.pem -pubout -out public.pem"


def signed_files(model: Path) -> tuple[Path, ...]:
    """What belongs to a model: itself, its portable form and the manifest that describes it.

    Raises InputError where the manifest beside it describes another file, which would give it false evidence.
    """
    models = [model, *(file for file in [model.with_name(PORTABLE)] if file.is_file() and file != model)]
    manifest = None
    for file in models:
        manifest, warnings = manifest_beside(file, digest_file(file))
        if warnings:
            raise InputError(warnings[0])
    return (*models, model.with_name(Manifest.FILE)) if manifest else tuple(models)


def sign_artifact(model: Path, key: Path, passphrase: str | None = None) -> tuple[Path, ...]:
    """Signs every file of an artifact, and returns the signatures.

    Raises InputError for a key that cannot be used, MissingError where the package for it is not installed.
    """
    private, files = private_key(key, passphrase), signed_files(model)
    return tuple(_sign(file, private) for file in files)


def _sign(file: Path, private: "EllipticCurvePrivateKey") -> Path:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from cryptography.hazmat.primitives.hashes import SHA256

    signature = private.sign(bytes.fromhex(digest_file(file)), ECDSA(Prehashed(SHA256())))
    with machine_errors(signature_of(file)):
        write_whole(signature_of(file), signature)
    return signature_of(file)


def signatures(model: Path) -> tuple[Path, ...]:
    """The signatures beside a model's files, good or not."""
    names = (model, model.with_name(PORTABLE), model.with_name(Manifest.FILE))
    return tuple(dict.fromkeys(path for file in names if (path := signature_of(file)).is_file()))


def check_signatures(model: Path, key: Path) -> tuple[Path, ...]:
    """The files of an artifact, all of which are signed with the key; raises InputError where one is not."""
    public = public_key(key)
    files = signed_files(model)
    for file in files:
        _check(file, public, key)
    return files


def _check(file: Path, public: "EllipticCurvePublicKey", key: Path) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from cryptography.hazmat.primitives.hashes import SHA256

    path = signature_of(file)
    if not path.is_file():
        raise InputError(f"{file}: not signed; {path.name} is not beside it")
    try:
        public.verify(path.read_bytes(), bytes.fromhex(digest_file(file)), ECDSA(Prehashed(SHA256())))
    except InvalidSignature as error:
        raise InputError(f"{path}: not the signature of {file.name} with the key {key}") from error


def signature_of(file: Path) -> Path:
    return file.with_name(file.name + SUFFIX)


def private_key(path: Path, passphrase: str | None = None) -> "EllipticCurvePrivateKey":
    """Raises InputError for anything but a private elliptic key whose passphrase, if it has one, is right."""
    with _usable(path, PRIVATE):
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        private = load_pem_private_key(path.read_bytes(), passphrase.encode() if passphrase else None)
    if not isinstance(private, EllipticCurvePrivateKey):
        raise InputError(f"{path}: an {type(private).__name__}; allowed: {PRIVATE}")
    return private


def public_key(path: Path) -> "EllipticCurvePublicKey":
    """Raises InputError for anything but a public elliptic key."""
    with _usable(path, PUBLIC):
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        public = load_pem_public_key(path.read_bytes())
    if not isinstance(public, EllipticCurvePublicKey):
        raise InputError(f"{path}: an {type(public).__name__}; allowed: {PUBLIC}")
    return public


@contextmanager
def _usable(path: Path, allowed: str) -> Iterator[None]:
    """What goes wrong with a key, in one line."""
    try:
        yield
    except ImportError as error:
        text = 'signatures need the package cryptography, which is not installed: pip install "paredown[sign]"'
        raise MissingError(text) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except TypeError as error:  # a passphrase is missing, or given for a key without one
        raise InputError(f"{path}: {error}; --ask asks for it, {VARIABLE} may hold it") from error
    except Exception as error:
        raise InputError(f"{path}: no such key, or another passphrase; allowed: {allowed}") from error
