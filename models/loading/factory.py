"""Models that a function in a file of the user's makes."""

from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paredown.models.errors import InputError, ParedownError
from paredown.models.loading.code_places import fault_of
from paredown.models.loading.libraries import quiet_torchvision
from paredown.models.loading.user_code import find_source, load_function, load_object

if TYPE_CHECKING:
    from torch import nn


def from_factory(source: str, classes: int, root: Path) -> "nn.Module":
    """What `path/to/file.py:factory` or `package.module:factory` returns; a copy where it is a module already. Raises
    InputError for what is no model."""
    from torch import nn

    from paredown.models.loading.plain_modules import copied

    quiet_torchvision()  # the file may import it
    made = load_object(find_source(source, root), root)
    if isinstance(made, nn.Module):
        return copied(made, source)
    factory = load_function(source, root)
    try:
        model = _call(factory, classes, source)
    except ParedownError:
        raise
    except Exception as error:
        raise InputError(f"model '{source}' raised {fault_of(error)}") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"model '{source}' returned {_described(model)}, not a torch.nn.Module")
    return model


def _call(factory: Callable[..., Any], classes: int, source: str) -> Any:
    """Calls `factory(classes)` if it has a parameter for it: one of that name, or one that it demands."""
    given = signature(factory).parameters
    by_name = next((name for name in ("classes", "num_classes") if name in given), None)
    demanded = [name for name, one in given.items() if one.default is Parameter.empty and _takes_one(one)]
    positional = [name for name in demanded if given[name].kind <= Parameter.POSITIONAL_OR_KEYWORD]
    first = by_name or next(iter(positional), None)
    if others := [name for name in demanded if name != first]:
        text = f"demands {', '.join(others)}; a factory is given the number of classes, and nothing else"
        raise InputError(f"model '{source}' {text}")
    if by_name and given[by_name].kind is not Parameter.POSITIONAL_ONLY:
        return factory(**{by_name: classes})
    return factory(classes) if first else factory()


def _takes_one(parameter: Parameter) -> bool:
    return parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def _described(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__} and no instance of it"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {', '.join(type(part).__name__ for part in value)}"
    return "None" if value is None else type(value).__name__
