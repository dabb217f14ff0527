"""Modules as people hold them (wrapped, compiled, pruned, reparametrized, in half precision), made plain."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from paredown.models.errors import InputError
from paredown.models.loading.code_places import fault_of

_NEEDED = (
    *("train", "eval", "to", "requires_grad_", "zero_grad", "state_dict", "load_state_dict"),
    *("parameters", "named_parameters", "buffers", "named_buffers", "children", "named_children"),
    *("modules", "named_modules", "get_submodule", "set_submodule"),
)
"""Methods of a module that are called; an attribute of that name hides one."""


def plain_module(module: nn.Module, source: str) -> nn.Module:
    """The module inside of wrappers (DataParallel, torch.compile, AveragedModel), on the CPU, in float32 and in
    evaluation mode. Raises InputError for what holds no float weights that can be trained (TorchScript, int8), and for
    batch norms without running statistics."""
    where = f"model '{source}'"
    module = _unwrapped(module)
    for name, inner in list(module.named_modules()):
        if name and _unwrapped(inner) is not inner:
            module.set_submodule(name, _unwrapped(inner))
    for name, inner in module.named_modules():
        _refuse_strange(name, inner, where)
    nn.Module.float(nn.Module.to(module, "cpu"))
    return in_evaluation_mode(module)


def in_evaluation_mode(module: nn.Module) -> nn.Module:
    """The module in evaluation mode. Its `train` may forget to return it, or to change the mode: that is made good."""
    if module.eval() is not module:
        _return_self(module)
    for inner in module.modules():
        inner.training = False
    return module


def _return_self(module: nn.Module) -> None:
    """Gives the module a class of its own, whose `train` returns the module as torch's does."""
    own = type(module)

    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        own.train(self, mode)
        return self

    module.__class__ = type(own.__name__, (own,), {"train": train, "__module__": own.__module__})


def _unwrapped(module: nn.Module) -> nn.Module:
    from torch.optim.swa_utils import AveragedModel

    while True:
        inner = vars(module).get("_modules", {})
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel | AveragedModel):
            module = inner["module"]
        elif isinstance(inner.get("_orig_mod"), nn.Module):
            module = inner["_orig_mod"]
        else:
            break
    if module._compiled_call_impl is not None:  # by its method `compile`
        module._compiled_call_impl = None
    return module


def _refuse_strange(name: str, module: nn.Module, where: str) -> None:
    place, kind = f"its module '{name}'" if name else "it", type(module)
    if isinstance(module, torch.jit.ScriptModule):
        text = "is TorchScript, which cannot be changed: return the Python module that it was made from"
        raise InputError(f"{where}: {place} {text}")
    if ".quantized" in kind.__module__ and kind.__module__.startswith("torch."):
        raise InputError(f"{where}: {place} is quantized ({kind.__name__}): return the float model")
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
        text = "has no running statistics: it would answer by the other images of a batch; let it track them"
        raise InputError(f"{where}: {place} ({kind.__name__}) {text}")
    hidden = [method for method in _NEEDED if method in vars(module) and not callable(vars(module)[method])]
    if hidden:
        value = vars(module)[hidden[0]]
        text = f"has an attribute '{hidden[0]}' ({value!r}), which hides the method of a torch module: rename it"
        raise InputError(f"{where}: {place} ({kind.__name__}) {text}")


def is_lazy(module: nn.Module) -> bool:
    """Whether some parameters have no shape before the module has been run once."""
    return any(nn.parameter.is_lazy(tensor) for tensor in (*module.parameters(), *module.buffers()))


def copied(module: nn.Module, source: str) -> nn.Module:
    """A copy, so that the module itself keeps nothing of what is tried with it. Raises InputError that names an
    attribute which cannot be copied. While weights are computed at every call it is the module itself."""
    if _computes_weights(module):
        return module
    try:
        return copy.deepcopy(module)
    except Exception as error:
        held = ((name, key, value) for name, inner in module.named_modules() for key, value in vars(inner).items())
        attributes = [f"{name}.{key}" if name else key for name, key, value in held if _resists_copying(key, value)]
        where = f" (attribute {attributes[0]})" if attributes else ""
        raise InputError(f"model '{source}' cannot be copied{where}: {fault_of(error)}") from error


def _resists_copying(key: str, value: object) -> bool:
    if key == "_modules":
        return False
    try:
        copy.deepcopy(value)
    except Exception:
        return True
    return False


def _computes_weights(module: nn.Module) -> bool:
    from torch.nn.utils import parametrize, prune
    from torch.nn.utils.spectral_norm import SpectralNorm
    from torch.nn.utils.weight_norm import WeightNorm

    kinds = (WeightNorm, SpectralNorm, prune.BasePruningMethod)
    hooks = (hook for inner in module.modules() for hook in inner._forward_pre_hooks.values())
    return any(isinstance(hook, kinds) for hook in hooks) or any(map(parametrize.is_parametrized, module.modules()))


def make_permanent(module: nn.Module) -> list[str]:
    """Puts plain weights in the place of those that are computed at every call: pruning masks, weight and spectral
    norms. Returns the names of what was found, each once; the module answers as before."""
    from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
    from torch.nn.utils.spectral_norm import SpectralNorm
    from torch.nn.utils.weight_norm import WeightNorm

    found = dict[str, None]()
    for inner in module.modules():
        for tensor, kind in _parametrized(inner):
            parametrize.remove_parametrizations(inner, tensor, leave_parametrized=True)
            found[kind] = None
        for number, hook in list(inner._forward_pre_hooks.items()):
            if isinstance(hook, WeightNorm):
                remove_weight_norm(inner, hook.name)
                found["weight norm"] = None
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(inner, hook.name)
                found["spectral norm"] = None
            elif isinstance(hook, prune.BasePruningMethod):
                hook.remove(inner)
                del inner._forward_pre_hooks[number]
                found["pruning masks"] = None
    return list(found)


def untie(module: nn.Module) -> list[str]:
    """Gives every layer parameters of its own, and every place a module of its own, where several share one; the names
    of those that did. The module answers as before."""
    owners, shared = dict[nn.Parameter, str](), _separate_modules(module)
    for name, inner in module.named_modules():
        for key, parameter in inner._parameters.items():
            if parameter is None:
                continue
            place = f"{name}.{key}" if name else key
            if parameter in owners:
                inner._parameters[key] = nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
                shared.append(f"{place} and {owners[parameter]}")
            else:
                owners[parameter] = place
    return shared


def _separate_modules(module: nn.Module) -> list[str]:
    """Puts a copy of a module with weights wherever it is held another time."""
    first, shared = dict[nn.Module, str](), list[str]()
    for name, inner in list(module.named_modules(remove_duplicate=False)):
        if any(name.startswith(f"{place.partition(' ')[0]}.") for place in shared):
            continue  # inside of a copy
        if inner in first and inner.state_dict():
            module.set_submodule(name, copy.deepcopy(inner))
            shared.append(f"{name} and {first[inner]}")
        first.setdefault(inner, name)
    return shared


def _parametrized(module: nn.Module) -> Iterator[tuple[str, str]]:
    """The names of tensors that are computed from others, and what computes them."""
    from torch.nn.utils import parametrize

    if parametrize.is_parametrized(module):
        held = module.get_submodule("parametrizations")
        for tensor, chain in list(held.named_children()):
            yield tensor, " and ".join(type(one).__name__.strip("_") for one in chain.children())


def composed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint with plain weights in the place of those that masks, weight norm and spectral norm had in parts."""
    plain, taken = dict(state), set[str]()
    for key in state:
        for made, parts, tensor in _compositions(key, state):
            plain[made] = tensor
            taken.update(parts)
    return {key: value for key, value in plain.items() if key not in taken}


def _compositions(key: str, state: dict[str, Tensor]) -> Iterator[tuple[str, list[str], Tensor]]:
    """Name, parts and value of the weight that is composed of `key` and others."""
    new, _, tail = key.rpartition(".parametrizations.")
    tensor, _, last = tail.partition(".")
    if new and last in ("original", "original0"):
        made, inside = f"{new}.{tensor}", f"{new}.parametrizations.{tensor}."
        names = {"g": "original0", "v": "original1"} if last == "original0" else {}
        names |= {"whole": "original", "left": "0._u", "right": "0._v", "mask": "0.mask"}
    elif key.endswith(("_orig", "_g")):
        made = inside = key.removesuffix("_orig").removesuffix("_g")
        names = {"g": "_g", "v": "_v"} if key.endswith("_g") else {"left": "_u", "right": "_v"}
        names |= {"whole": "_orig", "mask": "_mask"}
    else:
        return
    there = {name: f"{inside}{part}" for name, part in names.items() if f"{inside}{part}" in state}
    if (value := _composition({name: state[part] for name, part in there.items()})) is not None:
        yield made, list(there.values()), value


def _composition(parts: dict[str, Tensor]) -> Tensor | None:
    match parts:
        case {"g": g, "v": v}:
            axis = next((axis for axis, size in enumerate(g.shape) if size > 1), 0)
            return torch._weight_norm(v, g, axis)
        case {"whole": whole, "left": left, "right": right}:
            rows = whole if len(left) == len(whole) else whole.transpose(0, 1)
            return whole / (left @ (rows.reshape(len(left), -1) @ right))
        case {"whole": whole, "mask": mask}:
            return whole * mask
    return None
