"""What a SparseML recipe quantizes: which layers become int8, and which stay in float."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from paredown.pipeline.sparseml.layer_pins import EVERY, LayerPin, expression_of, is_module_class
from paredown.pipeline.sparseml.modifiers import SparsemlModifier


def imported_quantization(modifiers: Sequence[SparsemlModifier]) -> tuple[tuple[LayerPin, ...], list[str]]:
    """Pins to int8 and fp32, none where the recipe does not quantize, and notes about what was left out."""
    pins, notes = list[LayerPin](), list[str]()
    for m in modifiers:
        if m.name.endswith("QuantizationModifier"):
            more_pins, more_notes = _precisions(m)
            pins, notes = pins + more_pins, notes + more_notes
    return tuple(dict.fromkeys(pins)), notes


def _precisions(modifier: SparsemlModifier) -> tuple[list[LayerPin], list[str]]:
    """Ignored modules in fp32, then overrides, longest name first, then all the rest in int8."""
    notes = list[str]()
    pins = [_inside(modifier, "ignore", name, "fp32") for name in _modules(modifier, notes)]
    overrides = modifier.get("scheme_overrides", {})
    if not isinstance(overrides, dict):
        raise modifier.wrong("scheme_overrides", f"should be a mapping of modules to schemes, got {overrides!r}")
    for name in sorted(overrides, key=len, reverse=True):
        precision = _precision(modifier, "scheme_overrides", overrides[name], name)
        if name not in ("Conv2d", "Linear") and not is_module_class(name):
            pins.append(_inside(modifier, "scheme_overrides", name, precision))
        elif name in ("Conv2d", "Linear") and precision != "int8":
            raise modifier.wrong("scheme_overrides", f"leaves every {name} in float; allowed: names of layers")
        elif is_module_class(name):
            notes.append(f"{modifier.where('scheme_overrides')}: {modifier.name}: {name} is no layer with weights")
    if _precision(modifier, "scheme", modifier.get("scheme"), "") != "int8":
        raise modifier.wrong("scheme", "quantizes nothing; leave the modifier out")
    for key in ("weight_bits", "activation_bits"):
        _eight(modifier, key, modifier.get(key, 8), "")
    return pins + _rest(modifier, notes), notes


def _modules(modifier: SparsemlModifier, notes: list[str]) -> Iterator[str]:
    """Names of the modules that stay in float; classes that hold no weights are noted."""
    for key in ("ignore", "exclude_module_types"):
        for name in modifier.names(key, []):
            if name in ("Conv2d", "Linear"):
                raise modifier.wrong(key, f"leaves every {name} in float; allowed: names of modules")
            if key == "ignore" and not is_module_class(name):
                yield name
            else:
                notes.append(f"{modifier.where(key)}: {modifier.name}: {name} is no layer with weights")


def _rest(modifier: SparsemlModifier, notes: list[str]) -> list[LayerPin]:
    """What is quantized: all layers, or the named submodules only."""
    groups = modifier.get("config_groups", {})
    if not isinstance(groups, dict) or not all(isinstance(group, dict) for group in groups.values()):
        raise modifier.wrong("config_groups", f"should be a mapping of groups, got {groups!r}")
    targets = [str(name) for group in groups.values() for name in _targets(modifier, group)]
    for group in groups.values():
        if _precision(modifier, "config_groups", {k: v for k, v in group.items() if k != "targets"}, "") != "int8":
            raise modifier.wrong("config_groups", "leaves its targets in float; name them in ignore")
    classes = {name for name in targets if name in ("Conv2d", "Linear")}
    notes += [
        f"{modifier.where('config_groups')}: {modifier.name}: {name} is no layer with weights"
        for name in targets
        if is_module_class(name) and name not in classes
    ]
    if len(classes) == 1:
        raise modifier.wrong(
            "config_groups", f"quantizes every {classes.pop()} only; allowed: Conv2d and Linear, or names"
        )
    names = modifier.names("submodules", []) + [name for name in targets if not is_module_class(name)]
    if bad := [name for name in names if name.startswith("re:") or not name.isprintable()]:
        raise modifier.wrong("config_groups", f"holds {bad[0]!r}; allowed: names of modules")
    key = "submodules" if modifier.has("submodules") else "config_groups"
    if not names or classes:
        return [LayerPin(EVERY, True, "int8", modifier.origin("scheme"), modifier.where())]
    inside = [
        LayerPin(rf"{re.escape(n)}(\..*)?", True, "int8", modifier.origin(key), modifier.where(key)) for n in names
    ]
    return [*inside, LayerPin(EVERY, True, "fp32", modifier.origin(key), modifier.where(key))]


def _targets(modifier: SparsemlModifier, group: Mapping[str, Any]) -> list[Any]:
    targets = group.get("targets", ["Conv2d", "Linear"])
    if not isinstance(targets, list):
        raise modifier.wrong("config_groups", f"should hold a list of targets, got {targets!r}")
    return targets


def _inside(modifier: SparsemlModifier, key: str, name: str, value: str) -> LayerPin:
    """The layers of a module. SparseML's older form means every module whose name starts like this."""
    if name.startswith("re:"):
        layers = expression_of(modifier, key, name)
    else:
        layers = re.escape(name) + (r"(\..*)?" if modifier.has("config_groups") else ".*")
    return LayerPin(layers, True, value, modifier.origin(key), modifier.where(key))


def _precision(modifier: SparsemlModifier, key: str, scheme: Any, name: str) -> str:
    """int8 or fp32; raises InputError for other bits, and where only weights or only activations are quantized."""
    if scheme is None or scheme in ("default", "deepsparse", "tensorrt"):
        return "int8"
    if not isinstance(scheme, dict):
        raise modifier.wrong(key, f"should be a scheme or 'default', got {scheme!r}")
    for part, given in scheme.items():
        if isinstance(given, dict):
            _eight(modifier, key, given.get("num_bits", 8), f"{name} {part}")
    absent = [part for part in ("input_activations", "weights") if scheme.get(part, {}) in (None, "null")]
    if len(absent) == 1:
        of = f" of {name}" if name else ""
        raise modifier.wrong(key, f"leaves the {absent[0]}{of} in float; allowed: both in 8 bits, or both null")
    return "fp32" if absent else "int8"


def _eight(modifier: SparsemlModifier, key: str, bits: Any, of: str) -> None:
    if bits != 8 or isinstance(bits, bool):
        raise modifier.wrong(key, f"wants {bits!r} bits{f' for {of.strip()}' if of.strip() else ''}; allowed: 8")
