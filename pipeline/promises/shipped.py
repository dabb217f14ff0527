"""What came with an artifact, as far as it can be believed: its manifest's limits and target, its files."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from paredown.models.errors import InputError
from paredown.models.files import digest_file, is_file
from paredown.models.spec import Spec
from paredown.pipeline.artifact.artifact import find_model_file, model_in, opened_model
from paredown.pipeline.artifact.signing import PORTABLE
from paredown.pipeline.promises.promise import Promise
from paredown.stages.limits import Limits, Target
from paredown.stages.measuring.embedded_facts import facts_in_manifest
from paredown.stages.plugins import plugin_names
from paredown.stages.products.documents import parse_dataclass, plain_data
from paredown.stages.products.embedded import EmbeddedFacts
from paredown.stages.products.interval import CONFIDENCE
from paredown.stages.products.manifest import FILES, Manifest

ORIGINAL = "baseline/model.onnx"
"""The original's name in a manifest."""
MOST_THREADS, MOST_IMAGES = 1024, 1024
"""Of one inference, that a manifest may ask for: anybody may have written it."""
Part = TypeVar("Part", bound=Spec)
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Shipped:
    """An artifact's file and its manifest; `original` is the file that its factors are of, None where it is missing."""

    model: Path
    manifest: Manifest
    limits: Limits
    target: Target
    original: Path | None
    notes: tuple[str, ...] = ()

    @cached_property
    def digest(self) -> str:
        return digest_file(self.model)

    @property
    def confidence(self) -> float:
        """Of the intervals that findings rest on."""
        return self.limits.confidence or CONFIDENCE

    @property
    def is_promised(self) -> bool:
        """Whether the file is the one that the manifest is about."""
        return self.digest in {self.manifest.sha256.get(name) for name in FILES}


def read_shipped(artifact: Path, original: Path | None, runtime: str | None = None) -> Shipped:
    """The artifact in a file or folder with the manifest beside it; `original` is a file that the caller names, else
    that of the manifest is looked for beside it. `runtime` stands in for one that the manifest names by a path.

    Raises InputError, one line, for a manifest that is not there, damaged, or asks for what no run can have asked for,
    and for an original that is not the manifest's.
    """
    model = find_model_file(artifact)
    if model.name == PORTABLE:  # what is promised is promised of the form that the target's runtime takes
        model = model_in(model.parent) or model
    file = model.parent / Manifest.FILE
    if not is_file(model):
        raise InputError(f"{model}: no such file")
    if not is_file(file):
        raise InputError(f"{model}: no {Manifest.FILE} beside it, so nothing is promised")
    manifest = Manifest.load(model.parent)
    limits = validated(Limits, manifest.limits, f"{file}: limits")
    target = _target(manifest, file, runtime)
    _refuse_odd_digests(manifest.sha256, file)
    if manifest.seed is not None and not 0 <= manifest.seed < 2**32:
        raise InputError(f"{file}: seed: {manifest.seed}; allowed: 0 to {2**32 - 1}")
    found, notes = _original(model, manifest, original)
    return Shipped(model, manifest, limits, target, found, notes)


def validated(cls: type[Part], written: Mapping[str, Any], where: str) -> Part:
    """A part of a recipe as a manifest has it. Raises InputError that begins with `where` and names the first key that
    is wrong, or the part."""
    try:
        return cls.model_validate(written)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or cls.__name__.lower()
        raise InputError(f"{where}: {place}: {first['msg']}") from error


def _target(manifest: Manifest, file: Path, runtime: str | None) -> Target:
    """Where the artifact is to run. Code that a manifest names is not run: it may come from anybody."""
    told: dict[str, Any] = plain_data(manifest.target)
    if runtime is None and told["runtime"] not in (known := plugin_names("runtimes")):
        names = f"allowed: {', '.join(known)}"
        raise InputError(
            f"{file}: the runtime {told['runtime']!r:.80} is none that is installed ({names}); one of your own must be "
            "named with --runtime"
        )
    target = validated(Target, {**told, "runtime": runtime or told["runtime"]}, f"{file}: target")
    if target.threads > MOST_THREADS or target.batch > MOST_IMAGES:
        got = f"{target.threads} threads and {target.batch} images"
        raise InputError(f"{file}: target: {got}; allowed: up to {MOST_THREADS} and {MOST_IMAGES}")
    return target


def _refuse_odd_digests(digests: Mapping[str, str], file: Path) -> None:
    allowed = (*FILES, PORTABLE, ORIGINAL)
    if odd := [name for name in digests if name not in allowed]:
        raise InputError(f"{file}: sha256: {odd[0]!r:.80} is no file of an artifact; allowed: {', '.join(allowed)}")
    if wrong := [name for name, digest in digests.items() if not _DIGEST.fullmatch(digest)]:
        raise InputError(f"{file}: sha256: that of {wrong[0]} is none (64 hex digits)")
    if not set(FILES) & set(digests):
        raise InputError(f"{file}: sha256: no digest of {' or '.join(FILES)}")


def _original(model: Path, manifest: Manifest, given: Path | None) -> tuple[Path | None, tuple[str, ...]]:
    """The original's file: the given one, or that beside the artifact or in its run, and notes on what lies there."""
    expected = manifest.sha256.get(ORIGINAL)
    if given is not None:
        if not is_file(given):
            raise InputError(f"{given}: no such file")
        if expected is None:
            raise InputError(f"{given}: the manifest names no original, so no file can be known to be it")
        if (got := digest_file(given)) != expected:
            raise InputError(
                f"{given} is not the original that the manifest names: its sha256 is {got}, not {expected}"
            )
        return given, ()
    for folder in (model.parent, model.parent.parent):
        if is_file(file := folder / ORIGINAL):
            if digest_file(file) == expected:
                return file, ()
            return None, (f"{file} is not the original that the manifest names, and is not used",)
    return None, ()


def file_promises(shipped: Shipped) -> Iterator[Promise]:
    """Whether every file beside the manifest is the one that it names, and says of itself what the manifest says."""
    for name, expected in sorted(shipped.manifest.sha256.items()):
        if name == ORIGINAL:
            continue
        file = shipped.model if name in FILES else shipped.model.with_name(name)
        yield _digest_promise(name, file, expected)
    if shipped.is_promised:
        yield _metadata_promise(shipped)


def _digest_promise(name: str, file: Path, expected: str) -> Promise:
    if not is_file(file):
        return Promise(f"file {name}", "not checked", because=f"{file} is not there")
    if (got := digest_file(file)) == expected:
        return Promise(f"file {name}", "pass", because=f"sha256 {got}")
    return Promise(f"file {name}", "fail", because=f"its sha256 is {got}; the manifest promises {expected}")


def _metadata_promise(shipped: Shipped) -> Promise:
    """What the file says of itself against the manifest. A file of an earlier version says less, which is no
    contradiction."""
    from paredown.models.onnx.metadata import embedded_metadata

    told = embedded_metadata(opened_model(shipped.model))
    if not told:
        return Promise("metadata", "fail", because="the file says nothing of itself, as artifacts do")
    complaint = f"{shipped.model}: what it says of itself was not written by paredown"
    said = plain_data(parse_dataclass(EmbeddedFacts, told, complaint))
    expected = plain_data(facts_in_manifest(shipped.manifest, shipped.limits))
    both = [name for name in expected if name in told]
    wrong = [f"{name} ({words})" for name in both if (words := _difference(said[name], expected[name]))]
    if wrong:
        because = f"the file says otherwise than the manifest: {', '.join(wrong)}"
        return Promise("metadata", "fail", because=because)
    return Promise("metadata", "pass", because=f"the file says the same as the manifest of: {', '.join(both)}")


def _difference(told: Any, expected: Any) -> str:
    """Where two values of JSON differ, among what both say; empty where they do not."""
    if isinstance(told, dict) and isinstance(expected, dict):
        for key in told.keys() & expected.keys():
            if inner := _difference(told[key], expected[key]):
                return f"{key}: {inner}"
        return ""
    return "" if told == expected else f"{told!r:.60} in the file, {expected!r:.60} in the manifest"
