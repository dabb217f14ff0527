"""What a stage is, and what flows from one stage to the next."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from paredown.models.data.dataset import ImageData
from paredown.models.data.opening import open_data
from paredown.models.data.spec import DataSpec
from paredown.models.errors import InputError
from paredown.models.loading.spec import ModelSpec
from paredown.models.progress import Progress, silent_progress
from paredown.models.spec import Spec
from paredown.stages.limits import Limits, Target
from paredown.stages.plugins import Kind

if TYPE_CHECKING:
    from paredown.models.network.trace import Network


@dataclass(frozen=True)
class State:
    """What a stage may read, and the folder `out` that it writes its product into.

    `products` maps a product's name to the folder that holds it. `out` survives a kill: a stage that is
    started again finds there what it had written, and may go on from it. `compare` names runtimes on which the
    artifact is timed as well; it is no part of `target`, so that only the stage that times it there depends on it.
    `recipe` has the recipe's `name` and `sha256`, of what it asks for and not of how that is written. In a rehearsal
    there are only a `few` images in every split, which `few_images` opens.
    """

    model: ModelSpec
    data: DataSpec
    target: Target
    limits: Limits
    seed: int
    root: Path
    cache: Path
    out: Path
    products: Mapping[str, Path] = field(default_factory=dict)
    progress: Progress = silent_progress
    compare: tuple[str, ...] = ()
    recipe: Mapping[str, str] = field(default_factory=dict)
    few: int | None = None
    few_images: Callable[[], ImageData] | None = None

    def product(self, name: str) -> Path:
        """The folder of an earlier stage's product."""
        if name not in self.products:
            raise InputError(
                f"the product '{name}' is not there; products so far: {', '.join(self.products) or 'none'}"
            )
        return self.products[name]

    def with_product(self, name: str, folder: Path) -> "State":
        return replace(self, products={**self.products, name: folder})

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the model's input."""
        return (3, self.data.image_size, self.data.image_size)

    def open_data(self) -> ImageData:
        """The recipe's images, decoded and split; see `models.data.opening.open_data`."""
        if self.few_images:
            return self.few_images()
        return open_data(self.data, self.root, self.cache, self.seed, self.progress)


class Stage(Spec):
    """A frozen options object whose `run` writes one product into `state.out`.

    `reads` names the fields of `State` that decide the result (beside the options): together with the
    products in `needs` they make the key under which the product is stored, so a stage that reads more than
    it declares would be reused when it must not be. `uses` are products that it takes where they exist.
    """

    REQUIRES: ClassVar[Mapping[str, str]] = {}
    """Importable modules that may be missing, and the extra (`pip install "paredown[extra]"`) that brings each."""
    needs: ClassVar[tuple[str, ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ()
    gives: ClassVar[str]
    reads: ClassVar[tuple[str, ...]] = ()
    distributed: ClassVar[bool] = False
    """Whether all processes of a torchrun job run it together; of any other stage rank 0 alone makes the product."""
    goes_on: ClassVar[bool] = False
    """Whether later stages run although this one missed a limit and kept its product; the run ends with that line all
    the same, once they are done."""

    @abstractmethod
    def run(self, state: State) -> None:
        """Writes the product into `state.out`."""

    def check(self, network: "Network", root: Path) -> str:
        """What `paredown check` prints of it, one line, or nothing; it raises before any work what would fail later.

        `network` is the traced model, `root` the recipe's folder.
        """
        return ""

    def rehearse(self, state: State) -> bool:
        """Does the part of `run` that is quick and that another network could make fail, and writes a product of the
        same form from a few images; with clocks that measure next to nothing, and no limits.

        `paredown check` and the start of a run do this with all stages in order, so that what fails for reasons of
        structure fails there, and not after hours. False: there is no such part, and no product; later stages that
        need it are not rehearsed either.
        """
        return False

    def also_needs(self, root: Path) -> tuple[str, ...]:
        """Products that these options need, beyond `needs`."""
        return ()

    def named_plugins(self) -> Mapping[Kind, Mapping[str, Mapping[str, Any]]]:
        """The plugins that the options name, by kind, each with its own options: those that are called `runtime`,
        `solver`, `blocks`, `transform` or `transforms` name such plugins."""
        options = {name: value for name, value in self if name in _KINDS and value}
        return {kind: _named(options[name]) for name, kind in _KINDS.items() if name in options}


_KINDS: dict[str, Kind] = {
    "blocks": "blocks",
    "runtime": "runtimes",
    "solver": "solvers",
    "transform": "transforms",
    "transforms": "transforms",
}
"""Options of stages, by name, whose values are names of plugins."""


def _named(value: str | Mapping[str, Mapping[str, Any]] | Iterable[str]) -> dict[str, Mapping[str, Any]]:
    """Name to options, of what may be written as one name, as names, or as names with their options."""
    if isinstance(value, Mapping):
        return dict(value)
    return {name: {} for name in ([value] if isinstance(value, str) else value)}
