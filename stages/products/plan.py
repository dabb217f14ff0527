"""The product `plan`: the chosen candidate of every site, and what they make of every layer."""

import json
from typing import Any, cast

from paredown.stages.base import State


def load_choice(state: State) -> dict[str, str]:
    """The plan: site to candidate."""
    return cast(dict[str, str], json.loads((state.product("plan") / "plan.json").read_text())["choice"])


def load_quantization(state: State) -> dict[str, Any]:
    """The engine that calibrated int8 and what it decided, see `engines.base.Tuned`."""
    return cast(dict[str, Any], json.loads((state.product("plan") / "plan.json").read_text())["quantization"])


def load_layers(state: State) -> list[dict[str, Any]]:
    """What the plan makes of every layer, see `outline.layers`."""
    return cast(list[dict[str, Any]], json.loads((state.product("plan") / "plan.json").read_text())["layers"])
