"""The page that `python -m harness.train --help` prints.

Hydra's own page copies its store of configurations once for every axis, which takes seconds, and
shows one composed configuration without its comments.
"""

from __future__ import annotations

import re
from pathlib import Path

from harness.configuration.schema import CONF_DIR

_PAGE = """\
Trains cells. A cell is one configuration with several seeds, which train side by side.

    python -m harness.train AXIS=CHOICE AXIS.OPTION=VALUE       one cell
    python -m harness.train --multirun AXIS=CHOICE,CHOICE ...   a sweep of cells

conf/README.md explains every choice and its options. With the same arguments `--cfg job` shows the
whole configuration. `--hydra-help` shows Hydra's own flags.

== Axes and their choices ==
{axes}

== Options of every cell ==
{options}
"""
# The folder that holds no axis.
_HIDDEN = "hydra"
# A default such as ${listed_depth:8}, which gives way to the length of a list, and is 8 otherwise.
_COMPUTED_DEFAULT = re.compile(r"\$\{\w+:(\w+)\}")


def help_page() -> str:
    """Returns the page: how to ask, every axis with its choices, and the options of every cell."""
    return _PAGE.format(axes="\n".join(_axes(CONF_DIR)), options=_options())


def _axes(folder: Path, prefix: str = "") -> list[str]:
    """Returns a line for every group of files below a folder."""
    lines = []
    for group in sorted(path for path in folder.iterdir() if path.is_dir()):
        name = f"{prefix}{group.name}"
        if name == _HIDDEN:
            continue
        choices = sorted(path.stem for path in group.glob("*.yaml"))
        if choices:
            lines.append(f"{name}: {', '.join(choices)}")
        lines += _axes(group, f"{name}/")
    return lines


def _options() -> str:
    """Returns the part of `config.yaml`, comments included, between its defaults and Hydra's."""
    text = (CONF_DIR / "config.yaml").read_text()
    _, _, behind_defaults = text.partition("\n\n")
    options, _, _ = behind_defaults.partition("\nhydra:")
    return _COMPUTED_DEFAULT.sub(r"\1", options.strip())
