"""Plugins of six kinds by name: those that come with paredown, those of installed packages, and files of a recipe's.

Listing reads the sources and imports nothing, so it is fast and works without the optional dependencies.
"""

from paredown.stages.plugins.kinds import KINDS, Kind
from paredown.stages.plugins.lookup import (
    allowed_choices,
    comes_with_paredown,
    load_plugin,
    make_named,
    make_plugin,
    missing_requirement,
    plugin_file,
    plugin_names,
    plugin_requirements,
    plugin_sidecar,
    plugin_summary,
    refused_plugins,
)

__all__ = [
    "KINDS",
    "Kind",
    "allowed_choices",
    "comes_with_paredown",
    "load_plugin",
    "make_named",
    "make_plugin",
    "missing_requirement",
    "plugin_file",
    "plugin_names",
    "plugin_requirements",
    "plugin_sidecar",
    "plugin_summary",
    "refused_plugins",
]
