"""Makes a module answer with one tensor of logits (images, classes), whatever its author lets it return."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from paredown.models.errors import InputError
from paredown.models.loading.returned import LOGITS, Key, form_of, part_at, parts_of, returned_in_words
from paredown.models.network.shape import Shape, device_of

IMAGES = 2
"""That a module is tried on."""
TOGETHER = 1e-2
"""The share of the largest logit by which rounding may change answers with the size of a batch."""


@dataclass(frozen=True)
class MainOutput:
    """A forward hook that gives the tensor at `evaluated`, or in training at `trained`, of what a module returns, as
    float32; None is a tensor already. With `flat` sizes of 1 behind the classes are left out."""

    evaluated: Key | None
    trained: Key | None
    flat: bool

    def __call__(self, module: nn.Module, _inputs: Any, returned: Any) -> Tensor:
        answer = _picked(returned, self.trained if module.training else self.evaluated)
        answer = answer.flatten(1) if self.flat else answer
        return answer if answer.dtype == torch.float32 else answer.float()  # half, under the module's own autocast


def with_one_output(module: nn.Module, shape: Shape, classes: int, output: Key | None = None) -> nn.Module:
    """The module, with a hook where it needs one to answer with one tensor (images, classes), in evaluation and in
    training. It is tried on noise of `shape`; what it holds, torch's random state too, stays as it was.

    Taken are: one tensor; the `output` of several, by its key, name or place; the only one; `logits`; in training the
    one that computes what the module answers in evaluation. Heads that only training runs are taken off where the
    module does without them. Raises InputError, one line, for everything else. A module that fails on the noise is left
    as it is: whoever runs it next tells why.
    """
    evaluated, trained = (_tried(module, shape, training) for training in (False, True))
    if isinstance(evaluated, _Failed):
        return module
    at = _main_key(evaluated, output)
    answer = _picked(evaluated, at)
    _check_answer(answer, classes)
    if not isinstance(trained, Tensor):
        trained = _without_training_heads(module, shape, trained)
    training_at = None
    if not isinstance(trained, _Failed):
        training_at = _training_key(trained, output if at is None else at, answer)
    if output is not None and at is None and training_at is None:
        raise InputError(f"model.output: {output!r}, but the model returns one tensor; leave the key out")
    if (at, training_at) != (None, None) or answer.ndim > 2 or answer.dtype != torch.float32:
        module.register_forward_hook(MainOutput(at, training_at, answer.ndim > 2))
    return module


def refuse_answers_that_are_not_finite(module: nn.Module, images: Tensor) -> None:
    """Raises InputError where a module in evaluation mode gives NaN or infinite logits for real images (N, 3, H, W)."""
    with torch.no_grad():
        finite = module(images).isfinite().flatten(1).all(1)
    if count := int((~finite).sum()):
        text = f"{count} of the first {len(finite)} validation images: logits are not finite (NaN or infinite)"
        raise InputError(f"the model cannot be scored: {text}; its weights may hold such numbers")


def refuse_answers_that_depend_on_the_batch(module: nn.Module, images: Tensor) -> None:
    """Raises InputError where a module in evaluation mode answers otherwise to the first of several images (N, 3, H, W)
    than to that image alone."""
    with torch.no_grad():
        together, alone = module(images)[:1], module(images[:1])
    if not torch.allclose(together, alone, rtol=0.0, atol=TOGETHER * float(together.abs().max())):
        text = "what the model answers to an image depends on the other images of its batch"
        raise InputError(f"{text}, as a softmax over axis 0 does; allowed is an answer to each image alone")


class _Failed:
    """Stands for what a module would have returned."""


def _tried(module: nn.Module, shape: Shape, training: bool) -> Any:
    """What the module returns for noise, or `_Failed`. In training, layers whose answers are drawn, or depend on the
    batch, answer as in evaluation."""
    images = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(0)).to(device_of(module))
    with torch.random.fork_rng(devices=[]), torch.no_grad(), _unchanged(module):
        for part in module.modules():
            part.training = training and not _differs_in_training(part)
        try:
            return module(images)
        except Exception:  # it may be anybody's code; the next one who runs it says what is wrong
            return _Failed()


def _without_training_heads(module: nn.Module, shape: Shape, trained: Any) -> Any:
    """What the module returns in training without the parts that only training runs: auxiliary classifiers, as those of
    GoogLeNet and Inception, cost time, need large images, and learn nothing from a loss of the main answer. The module
    stays as it was, and `trained` is returned, where it cannot do without them."""
    parts = {name: part for name, part in module.named_children() if next(part.parameters(), None) is not None}
    evaluated = _called(module, shape, parts, training=False)
    only = [name for name in _called(module, shape, parts, training=True) if name not in evaluated]
    for instead in (None, _Passing()) if only else ():
        for name in only:
            setattr(module, name, instead)
        fewer = _tried(module, shape, training=True)
        if not isinstance(fewer, _Failed):
            return fewer
        for name in only:
            setattr(module, name, parts[name])
    return trained


class _Passing(nn.Module):
    """Stands where the module's code calls a head without asking whether there is one."""

    def forward(self, first: Any, *_others: Any, **_named: Any) -> Any:
        return first


def _called(module: nn.Module, shape: Shape, parts: Mapping[str, nn.Module], training: bool) -> list[str]:
    """Which of the parts run, also where the module then fails."""
    names = list[str]()

    def note(name: str) -> Callable[..., None]:
        return lambda _part, _inputs: names.append(name)

    hooks = [part.register_forward_pre_hook(note(name)) for name, part in parts.items()]
    _tried(module, shape, training)
    for hook in hooks:
        hook.remove()
    return names


def _differs_in_training(part: nn.Module) -> bool:
    return isinstance(part, nn.modules.batchnorm._NormBase) or "drop" in type(part).__name__.lower()


@contextmanager
def _unchanged(module: nn.Module) -> Iterator[None]:
    """Afterwards every part is in its mode again, and all buffers hold what they held."""
    modes = [(part, part.training) for part in module.modules()]
    held = {name: buffer.clone() for name, buffer in module.named_buffers()}
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
        for name, buffer in module.named_buffers():
            if name in held and buffer.shape == held[name].shape:
                buffer.copy_(held[name])


def _main_key(returned: Any, output: Key | None) -> Key | None:
    """Where the logits are in what a module returned; None where it is one tensor."""
    if isinstance(returned, Tensor):
        return None
    parts = parts_of(returned)
    if output is not None:
        if part_at(parts, output) is None:
            raise InputError(
                f"model.output: the model returns nothing called {output!r}; it returns {returned_in_words(returned)}"
            )
        return output
    key = next(iter(parts)) if len(parts) == 1 else LOGITS
    if not isinstance(parts.get(key), Tensor):
        keys = ", ".join(f"`output: {key}`" for key, part in parts.items() if isinstance(part, Tensor))
        asks = f"the key `output` of `model` must say which one are the logits: {keys}" if keys else _ALLOWED
        raise InputError(f"the model returns {returned_in_words(returned)}; {asks}")
    return key


_ALLOWED = "a classifier returns one tensor of logits (images, classes), alone or as a part"


def _training_key(returned: Any, key: Key | None, answer: Tensor) -> Key | None:
    """The same in training: at `key`, else the part that is the `answer` of evaluation."""
    if isinstance(returned, Tensor):
        return None
    parts = parts_of(returned)
    if key is not None and isinstance(part_at(parts, key), Tensor):
        return key
    if isinstance(parts.get(LOGITS), Tensor):
        return LOGITS
    for name, part in parts.items():
        if _equals(part, answer):
            return name
    asks = "none of them is what it answers in evaluation: the key `output` of `model` must say which one is trained"
    raise InputError(f"in training the model returns {returned_in_words(returned)}; {asks}")


def _equals(part: Any, answer: Tensor) -> bool:
    return isinstance(part, Tensor) and part.shape == answer.shape and torch.allclose(part, answer, 1e-3, 1e-4)


def _picked(returned: Any, key: Key | None) -> Tensor:
    answer = returned if key is None else part_at(parts_of(returned), key)
    if not isinstance(answer, Tensor):
        raise InputError(f"the model returns {returned_in_words(returned)}; {_ALLOWED}")
    return answer


def _check_answer(answer: Tensor, classes: int) -> None:
    """Raises InputError for what is not one float for each class of each image."""
    wide: Sequence[int] = [size for size in answer.shape[2:] if size != 1]
    if not answer.is_floating_point() or answer.shape[:2] != (IMAGES, classes) or wide:
        got = f"{form_of(answer)} for {IMAGES} images"
        raise InputError(
            f"the model answers with {got}; the data has {classes} classes: allowed is float (images, classes)"
        )
