"""The product `sensitivity`: the expected loss of every candidate at every site, in nats."""

import json
from collections.abc import Mapping

from paredown.stages.base import State

Losses = dict[str, dict[str, float]]
"""Site to candidate to expected loss increase in nats."""


def load_losses(state: State) -> Losses:
    result: Mapping[str, Losses] = json.loads((state.product("sensitivity") / "sensitivity.json").read_text())
    return result["losses"]
