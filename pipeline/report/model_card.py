"""The model card of a finished run: Markdown with the front matter that model hubs read, and the plan's picture.

The headings are those that model cards have had since Mitchell et al. (2019). What only the owner knows comes from the
recipe's `card`, and is marked where it is not filled in.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from paredown.models.files import write_whole
from paredown.pipeline.machine_errors import machine_errors
from paredown.pipeline.recipe.recipe import CardDetails
from paredown.pipeline.report import provenance, report
from paredown.pipeline.report.closing_table import closing_table_of
from paredown.pipeline.report.layer_rows import plan_summary
from paredown.pipeline.report.plan_picture import plan_svg
from paredown.pipeline.report.replaced_blocks import replaced_blocks, replacement_sentence
from paredown.pipeline.report.training_chart import PHASES
from paredown.pipeline.report.written_measures import (
    accuracy_in_words,
    artifact_in_words,
    change_of_measure,
    interval_note,
    limit_in_words,
    original_in_words,
    remarks,
)
from paredown.pipeline.run.run_folder import RunFolder, as_damage, read_run_folder
from paredown.stages.products.manifest import Manifest

CARD, PICTURE = "model-card.md", "plan.svg"
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
_SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")


def write_card(card: CardDetails, folder: Path) -> Path | None:
    """Writes `model-card.md` and `plan.svg` into a run's folder, each in one step.

    Without an artifact there is nothing to describe, and those of an earlier one are taken away. Raises MachineError
    where they cannot be written.
    """
    run = read_run_folder(folder)
    with as_damage(folder), machine_errors(folder / CARD):
        if run.manifest is None:
            for name in (CARD, PICTURE):
                (folder / name).unlink(missing_ok=True)
            return None
        if rows := report.plan_rows(run):
            write_whole(folder / PICTURE, plan_svg(rows))
        write_whole(folder / CARD, _text(card, run, run.manifest))
    return folder / CARD


def _text(card: CardDetails, run: RunFolder, manifest: Manifest) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        autoescape=False,  # Markdown, not HTML: `plain_markdown` makes words of others harmless
    )
    environment.filters["plain"] = plain_markdown
    rows, table, blocks = report.plan_rows(run), closing_table_of(run), replaced_blocks(run)
    text = environment.get_template("model-card.md").render(
        run=run,
        verdict=report.run_verdict(run, table),
        front_matter=yaml.safe_dump(front_matter(card, run), sort_keys=False, allow_unicode=True, width=120),
        details=[*_details(manifest)],
        owner=lambda field: _filled(card, field),
        table=table,
        original=original_in_words,
        artifact=artifact_in_words,
        change=change_of_measure,
        limit=limit_in_words,
        notes=[*filter(None, [interval_note(table, manifest.confidence)]), *remarks(table)],
        facts=dict(provenance.provenance_facts(run)),
        training=[*_training(run, manifest)],
        summary=plan_summary(rows),
        loss=run.plan.loss_check.sentence() if run.plan and run.plan.loss_check else "",
        replacements=replacement_sentence(blocks) if blocks else "",
        pictured=bool(rows),
    )
    return re.sub(r"\n{3,}", "\n\n", text)


def front_matter(card: CardDetails, run: RunFolder) -> dict[str, Any]:
    """What model hubs read at a card's head; what nobody filled in is left out."""
    licence: dict[str, Any] = {}
    if card.licence and _SPDX.fullmatch(card.licence):
        licence = {"license": card.licence.lower()}
    elif card.licence:
        licence = {"license": "other", "license_name": card.licence}
    layers = run.plan.layers if run.plan else ()
    tags = ["onnx", "paredown"]
    tags += ["int8"] if any(layer.bits == 8 for layer in layers) else []
    tags += ["sparse"] if any(layer.sparsity for layer in layers) else []
    return licence | {
        "pipeline_tag": "image-classification",
        "library_name": "onnx",
        "tags": tags,
        "metrics": ["accuracy"],
    }


def plain_markdown(words: str) -> str:
    """Words of others on one line, which Markdown shows as they are."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(words).split()))


def _filled(card: CardDetails, field: str) -> str:
    value = getattr(card, field)
    return plain_markdown(value) if value else f"**Not filled in** (`card: {{{field}: …}}` in the recipe)"


def _details(manifest: Manifest) -> Iterator[tuple[str, str]]:
    model, target, recipe = manifest.model, manifest.target, manifest.recipe
    yield "what it is", "an image classifier as an ONNX file, made smaller and faster from an original"
    weights = f", weights {Path(model.weights).name}" if model.weights else ""
    yield "original", f"{model.source}{weights}"
    yield "made by", f"paredown {manifest.paredown}"
    if recipe:
        yield "recipe", f"{recipe['name']}, sha256 {recipe['sha256']}"
    yield "runtime", f"{target.runtime}, batch {target.batch}, threads {target.threads}, {target.caches} caches"
    if manifest.input:
        yield "input", str(manifest.input)
    each = f"one logit for each of {len(manifest.data.classes)} classes, in the order of the manifest"
    yield "output", f"{manifest.output}: {each}" if manifest.output else each
    yield "files", ", ".join(f"artifact/{name}" for name in sorted(manifest.shipped()))


def _training(run: RunFolder, manifest: Manifest) -> Iterator[str]:
    """One line per training phase."""
    for phase, group in groupby(run.epochs, key=lambda epoch: epoch.phase):
        accuracies = [epoch.accuracy for epoch in group]
        what = f"{phase}, {PHASES[phase]}" if phase in PHASES else phase
        count = f"{len(accuracies)} epoch{'' if len(accuracies) == 1 else 's'}"
        yield f"{what}: {count}, best accuracy on validation {_points(max(accuracies), manifest)}"


def _points(points: float, manifest: Manifest) -> str:
    """An accuracy on validation with its interval, where the number of images is known."""
    images = manifest.data.images.get("validation")
    return accuracy_in_words(points, images, manifest.confidence) if images else f"{points:.2f} %"
