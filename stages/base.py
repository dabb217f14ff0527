"""What a stage is, and what flows from one stage to the next."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Protocol

from paredown.models.data.dataset import Data
from paredown.models.data.opening import open_data
from paredown.models.data.spec import DataSpec
from paredown.models.errors import InputError
from paredown.models.loading.spec import ModelSpec
from paredown.models.progress import Progress, silent
from paredown.stages.limits import Limits, Target


@dataclass(frozen=True)
class State:
    """What a stage may read, and the folder `out` that it writes its product into.

    `products` maps a product's name to the folder that holds it. `out` survives a kill: a stage that is
    started again finds there what it had written, and may go on from it. `compare` names runtimes on which the
    artifact is timed as well; it is no part of `target`, so that only the stage that times it there depends on it.
    `recipe` has the recipe's `name` and `sha256`, of what it asks for and not of how that is written.
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
    progress: Progress = silent
    compare: tuple[str, ...] = ()
    recipe: Mapping[str, str] = field(default_factory=dict)

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

    def open_data(self) -> Data:
        """The recipe's images, decoded and split; see `models.data.opening.open_data`."""
        return open_data(self.data, self.root, self.cache, self.seed, self.progress)


class Stage(Protocol):
    """A frozen options object whose `run` writes one product into `state.out`.

    `reads` names the fields of `State` that decide the result (beside the options): together with the
    products in `needs` they make the key under which the product is stored, so a stage that reads more than
    it declares would be reused when it must not be. `uses` are products that it takes where they exist.
    A stage may have `check(network, root)`, with the traced model: `paredown check` calls it, so that it can raise
    before any work, and prints the line that it returns.
    """

    needs: ClassVar[tuple[str, ...]]
    uses: ClassVar[tuple[str, ...]]
    gives: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]

    def run(self, state: State) -> None: ...
