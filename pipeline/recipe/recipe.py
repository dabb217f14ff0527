"""The recipe: YAML in, a frozen and checked `Recipe` out, every complaint with file and line."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, SkipValidation, WithJsonSchema, field_validator

from paredown.models.data.spec import DataSpec
from paredown.models.errors import InputError, MissingError
from paredown.models.files import digest_of
from paredown.models.loading.spec import ModelSpec
from paredown.models.spec import Spec
from paredown.pipeline.recipe.faults import RecipeFault, as_error, known_keys, parse_spec
from paredown.pipeline.recipe.yaml_lines import Place, YamlDocument, read_yaml
from paredown.stages import plugins
from paredown.stages.base import Stage
from paredown.stages.limits import Bound, Limits, Target

DEFAULT = ("baseline", "profile", "sensitivity", "search", "compress", "recover", "export", "verify")
"""The pipeline of a recipe that names none."""


class PipelineStep(Spec):
    """One entry of the pipeline: a stage's name in the recipe, and the stage with its options."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: str
    stage: SkipValidation[Stage]


class ComparedTarget(Target):
    """Where the artifact will run."""

    compare: tuple[str, ...] = Field(
        default=(),
        description="further runtimes on which verify times both models; nothing is chosen on them",
    )


class CardDetails(Spec):
    """What only the owner of the model knows, for the model card; nothing is made from it."""

    licence: str | None = Field(default=None, description="of the artifact's weights: an SPDX name, or in words")
    contact: str | None = Field(default=None, description="who answers questions about the model")
    intended_use: str | None = Field(default=None, description="what it is for, and for whom")
    out_of_scope: str | None = Field(default=None, description="what it must not be used for")
    ethics: str | None = Field(default=None, description="whom errors could harm, and what is done about it")


_NAME = r'^[^\s.~/\\:*?"<>|\x00-\x1f\x7f-\x9f-][^/\\:*?"<>|\x00-\x1f\x7f-\x9f]{0,99}$'
_MOST_BYTES = 200
"""Of a name in UTF-8: file systems allow 255 with what is added to it."""


class Recipe(Spec):
    """A recipe, read and checked. `root` is the folder that the recipe's relative paths start from."""

    name: str = Field(
        pattern=_NAME,
        description="name of the run's folder: up to 100 letters, digits, spaces and other characters, but none of "
        "/ \\ : * ? \" < > | and at its start no . - or ~ (default: the file's name)",
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of every random choice")
    model: ModelSpec = Field(description="the model to pare down")
    data: DataSpec = Field(description="the images that it must be good at")
    target: ComparedTarget = Field(ComparedTarget(), description="where the artifact will run")
    limits: Limits = Field(description="what the artifact must hold; at least one")
    pipeline: Annotated[tuple[PipelineStep, ...], WithJsonSchema({})] = Field(
        description="the stages in order, each a name or `name: {options}`"
    )
    front: tuple[Bound, ...] = Field(
        (),
        description="latency_p50 limits, such as [0.5x, 0.3x]: each is finished as a model of its own",
    )
    card: CardDetails = Field(CardDetails(), description="what the model card says of use, licence and owner")
    root: Path

    @field_validator("name")
    @classmethod
    def _can_be_a_folder(cls, name: str) -> str:
        if not name.isprintable() or name != name.strip() or name.endswith("."):
            raise ValueError("allowed are characters that can be printed, and at the end no space and no dot")
        if len(name.encode()) > _MOST_BYTES:
            raise ValueError(f"it has {len(name.encode())} bytes in UTF-8; allowed are {_MOST_BYTES}")
        return name

    def state_fields(self) -> dict[str, Any]:
        """The fields of the stages' `State` that come from the recipe."""
        target = Target(**self.target.model_dump(exclude={"compare"}))
        parts = {"model": self.model, "data": self.data, "limits": self.limits, "seed": self.seed, "root": self.root}
        named = {"name": self.name, "sha256": self.digest()}
        return {**parts, "target": target, "compare": self.target.compare, "recipe": named}

    def digest(self) -> str:
        """sha256 in hex over what it asks for. Comments, order, and defaults that are written out do not change it, nor
        do its name and its place."""
        options = self.model_dump(mode="json", exclude={"name", "root", "pipeline", "card"})
        steps = [[step.name, step.stage.model_dump(mode="json")] for step in self.pipeline]
        return digest_of({**options, "pipeline": steps})


def load_recipe(file: Path | str) -> Recipe:
    """Reads and checks a recipe. Raises InputError with one line per fault (`file:line: what; allowed: ...`),
    or MissingError where a stage's optional dependency is not installed."""
    document = read_yaml(Path(file))
    keys = [name for name in Recipe.model_fields if name != "root"]
    written, faults = known_keys(document, "a recipe", keys)
    root = document.file.parent
    steps, faults_of_steps = _steps(document, root)
    faults += faults_of_steps
    written |= {"pipeline": steps, "root": root, "name": written.get("name", document.file.stem.strip())}
    recipe, more = parse_spec(Recipe, written, document, ())
    faults += more + (_faults_of(recipe) if recipe and not faults else [])
    if faults or recipe is None:
        raise as_error(document, faults)
    return recipe


def expand_front(recipe: Recipe) -> tuple[Recipe, ...]:
    """The recipe once per limit of its `front`, under names of their own; the recipe itself where it lists none.

    All share what does not depend on limits: the original, the profile and the sensitivities are made once.
    """
    return tuple(_at(recipe, bound) for bound in recipe.front) or (recipe,)


def _at(recipe: Recipe, bound: Bound) -> Recipe:
    limits = recipe.limits.model_copy(update={"latency_p50": bound})
    name = f"{recipe.name}-{str(bound).replace(' ', '')}"
    return recipe.model_copy(update={"name": name, "limits": limits, "front": ()})


def chain_faults(steps: Sequence[PipelineStep], root: Path = Path()) -> list[RecipeFault]:
    """A fault for every product that a stage needs and no earlier stage gives, that comes too late, or that is given
    twice."""
    faults, given = [], dict[str, str]()
    for i, step in enumerate(steps):
        later = {after.stage.gives: after.name for after in steps[i + 1 :]}
        faults += [RecipeFault(("pipeline", i), text) for text in _link_faults(step, root, given, later)]
        given[step.stage.gives] = step.name
    return faults


def _link_faults(step: PipelineStep, root: Path, given: Mapping[str, str], later: Mapping[str, str]) -> Iterator[str]:
    stage, name = step.stage, step.name
    for need in (*stage.needs, *stage.also_needs(root)):
        if need not in given:
            so_far = f"given so far: {', '.join(given) or 'nothing'}"
            yield f"{name} needs '{need}', which no stage before it gives; {so_far}"
    for use in stage.uses:
        if use in later and use not in given:
            yield f"{name} uses '{use}', which comes too late; put {later[use]} before it"
    if stage.gives in given:
        yield f"{name} gives '{stage.gives}', which {given[stage.gives]} gave already"


def _faults_of(recipe: Recipe) -> list[RecipeFault]:
    """Faults that show only once everything is read."""
    faults = chain_faults(recipe.pipeline, recipe.root)
    if not recipe.limits.bounded:
        allowed = ", ".join(name for name in Limits.model_fields if name != "confidence")
        faults.append(RecipeFault(("limits",), f"limits sets no limit; allowed: {allowed}"))
    names = [str(bound) for bound in recipe.front]
    if len(set(names)) < len(names) or any(bound.unit == "MiB" for bound in recipe.front):
        faults.append(
            RecipeFault(("front",), f"front lists {', '.join(names)}; allowed: different factors or times in ms")
        )
    return faults + list(_runtime_faults(recipe))


def _runtime_faults(recipe: Recipe) -> Iterator[RecipeFault]:
    """A fault for every runtime that does not exist, or is named twice."""
    named: list[tuple[Place, str]] = [(("target", "runtime"), recipe.target.runtime)]
    named += [(("target", "compare", i), name) for i, name in enumerate(recipe.target.compare)]
    for i, (place, name) in enumerate(named):
        try:
            plugins.plugin_file("runtimes", name, recipe.root)
        except InputError as error:
            yield RecipeFault(place, str(error))
        if name in (other for _, other in named[:i]):
            yield RecipeFault(place, f"target.compare names {name}, on which the artifact is measured already")


def _steps(document: YamlDocument, root: Path) -> tuple[list[PipelineStep], list[RecipeFault]]:
    entries = document.data.get("pipeline", list(DEFAULT))
    if not isinstance(entries, list) or not entries:
        return [], [RecipeFault(("pipeline",), f"pipeline must be a list of stages, got {entries!r}")]
    steps, faults = [], []
    for i, entry in enumerate(entries):
        step, wrong = _step(entry, ("pipeline", i), document, root)
        steps += [step] if step else []
        faults += wrong
    return steps, faults


def _step(
    entry: Any, place: Place, document: YamlDocument, root: Path
) -> tuple[PipelineStep | None, list[RecipeFault]]:
    pair = {entry: {}} if isinstance(entry, str) else entry
    if not isinstance(pair, dict) or len(pair) != 1:
        return None, [RecipeFault(place, f"a stage is written `name` or `name: {{options}}`, got {entry!r}")]
    ((name, options),) = pair.items()
    try:
        cls = plugins.load_plugin("stages", name, root)
    except MissingError as error:
        raise MissingError(f"{document.file}:{document.line(place)}: {error}") from error
    except InputError as error:
        return None, [RecipeFault(place, str(error))]
    stage, faults = parse_spec(cls, {} if options is None else options, document, (*place, name))
    return (PipelineStep(name=name, stage=stage) if stage else None), faults
