"""Which transforms gain anything on the target, and what is told of those that do not."""

from collections.abc import Callable, Sequence

from paredown.models.graph import Layer
from paredown.models.sparse import Sparsity
from paredown.models.spec import InputError
from paredown.stages.base import State
from paredown.stages.measure import runtime_of
from paredown.stages.meter import Meter
from paredown.stages.transforms.base import Subject, Transform
from paredown.stages.transforms.sparsify import Sparsify


def pays(name: str, transform: Transform, state: State) -> bool:
    """Whether the target's runtime turns what a transform does into time or bytes.

    Raises InputError for what the runtime may not even run; zeros do no harm anywhere.
    """
    supported = runtime_of(state).supports(transform.FEATURE)
    if transform.FEATURE == "sparse":
        return supported or state.target.container != "plain"
    if not supported:
        gains = f"the runtime {state.target.runtime} does not support {transform.FEATURE}"
        raise InputError(f"profile.transforms: {gains}, so '{name}' would gain nothing; leave it out")
    return supported


def left_out(subject: Subject, transform: Transform, state: State) -> str:
    """The warning, with what the harshest uniform choice of a transform that does not pay gains here, as measured."""
    *_, choice = ({}, *transform.uniform(subject))
    meter = Meter(subject, (transform,), state)
    before, after = meter.sample({}), meter.sample(choice)
    gains = f"{after.latency / before.latency:.2f}x of the time and {after.size / before.size:.2f}x of the bytes"
    return (
        f"sparsify is left out: {state.target.runtime} turns zeros neither into time nor into bytes. With "
        f"{' and '.join(dict.fromkeys(choice.values()))} everywhere this network takes {gains}, measured just now. "
        "`narrow` removes whole channels, which saves both; with `target: {container: gzip}` zeros save bytes"
    )


def sparsities(transforms: Sequence[Transform]) -> Callable[[Layer], Sequence[Sparsity]]:
    """What layers are to be pruned to beforehand."""
    prepared = [t for t in transforms if isinstance(t, Sparsify) and t.method == "obs"]
    return prepared[0].offers if prepared else lambda _: ()
