"""Models that a function in a file of the user's makes."""

from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from paredown.models.errors import InputError
from paredown.models.loading.libraries import quiet_torchvision
from paredown.models.loading.user_code import load_function

if TYPE_CHECKING:
    from torch import nn

Head = Literal["keep", "replace"]


def from_factory(source: str, classes: int, root: Path, head: Head) -> "nn.Module":
    """What `path/to/file.py:factory` returns, its head as `load_model` says. Raises InputError for what is no model."""
    from torch import nn

    quiet_torchvision()  # the file may import it
    factory = load_function(source, root)
    try:
        model = _call(factory, classes)
    except Exception as error:
        raise InputError(f"model '{source}' raised {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"model '{source}' returned {type(model).__name__}, not a torch.nn.Module")
    _adapt_head(model, classes, head, source)
    return model


def _call(factory: Callable[..., Any], classes: int) -> Any:
    """Calls `factory(classes)` if it has a parameter for it: one of that name, or one that it demands."""
    given = signature(factory).parameters
    for name in ("classes", "num_classes"):
        if name in given:
            return factory(**{name: classes})
    positional = [p for p in given.values() if p.kind <= Parameter.POSITIONAL_OR_KEYWORD]
    return factory(classes) if any(p.default is Parameter.empty for p in positional) else factory()


def _adapt_head(model: "nn.Module", classes: int, head: Head, source: str) -> None:
    """Where a factory does not take the number of classes, it has its own: the outputs of its last layer."""
    from paredown.models.loading.checkpoint import classifier_heads, classifier_name, output_count, resize_head

    name, last = next(reversed(classifier_heads(model).items()), ("", None))
    if last is None or output_count(last) == classes:
        return
    if head == "replace":
        resize_head(model, name, classes)
    elif classifier_name(model, classes) is None:
        text = f"{output_count(last)} classes at '{name}', the data has {classes}: a `fit` stage adapts it"
        raise InputError(f"model '{source}': {text}")
