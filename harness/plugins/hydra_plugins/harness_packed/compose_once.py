"""Composes the jobs of a sweep from files that are read once.

Imports nothing heavy: Hydra loads every module beside a plugin at each start.
"""

import copy
import pickle
import zlib
from typing import Any

from hydra.core.default_element import GroupDefault
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

# Compressed configurations of several choices that are kept, of 6 KiB each. Others are joined again
# for each job, which takes twice as long as to decompress them.
_MOST_KEPT = 256


class ComposeOnce:
    """A config loader that composes once for every choice of files, and copies that for each job.

    Plain values are set in the copy. Composing takes Hydra more than a tenth of a second, a copy
    and its values take a few milliseconds. In a large sweep, choices that change nothing but their
    own part of the configuration are composed one by one and joined for the jobs. Files that were
    read are kept, so that editing one during the sweep changes none of its jobs.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._parser = OverridesParser.create()
        self._parsed: dict[str, Override] = {}
        # Composed configurations by their overrides, compressed where that is possible.
        self._composed: dict[tuple[str, ...], bytes | DictConfig] = {}
        # Configurations composed with a single override.
        self._single: dict[str, DictConfig] = {}
        self._interpolated: bool | None = None

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """Returns the configuration of one job, equal to the one that Hydra composes."""
        overrides = [self._parse(line) for line in sweep_overrides]
        plain = [override for override in overrides if self._is_plain(override)]
        file_choices = [override for override in overrides if self._chooses_file(override)]
        if len(plain) + len(file_choices) < len(overrides):
            # Additions, deletions and packages depend on their order, so Hydra composes all.
            plain = []
        base = tuple(_line(override) for override in overrides if override not in plain)
        config = self._copy_of_composed(master_config, base)
        try:
            for override in plain:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:
            # Hydra's own composition says what is wrong.
            return self._loader.load_sweep_config(master_config, list(sweep_overrides))
        _record_overrides(config, overrides)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def _parse(self, line: str) -> Override:
        if line not in self._parsed:
            self._parsed[line] = self._parser.parse_override(line)
        return self._parsed[line]

    def _copy_of_composed(
        self, master_config: DictConfig, overrides: tuple[str, ...]
    ) -> DictConfig:
        """Returns a copy of the configuration for these overrides."""
        if overrides not in self._composed:
            composed = self._joined(master_config, overrides)
            if composed is None:
                composed = self._loader.load_sweep_config(master_config, list(overrides))
            elif len(self._composed) >= _MOST_KEPT:
                return composed
            self._composed[overrides] = _compressed(composed)
        kept = self._composed[overrides]
        if isinstance(kept, bytes):
            return pickle.loads(zlib.decompress(kept))
        return copy.deepcopy(kept)

    def _joined(self, master_config: DictConfig, overrides: tuple[str, ...]) -> DictConfig | None:
        """Joins several choices of files, each composed alone.

        Returns None where the result may differ from Hydra's, or where composing each choice alone
        does not pay yet.
        """
        choices = [self._parse(line) for line in overrides]
        not_composed = [line for line in overrides if line not in self._single]
        groups = {choice.key_or_group for choice in choices}
        if len(choices) < 2 or len(groups) < len(choices):
            return None
        if len(not_composed) > len(self._composed):
            return None
        if self._asks_by_interpolation(master_config):
            return None
        if not all(self._changes_own_part_only(self._parse(line)) for line in not_composed):
            return None
        for line in not_composed:
            self._single[line] = self._loader.load_sweep_config(master_config, [line])
        config = self._copy_of_composed(master_config, ())
        with open_dict(config):
            for choice in choices:
                single = self._single[_line(choice)]
                group = choice.key_or_group
                config[group] = single[group]
                config.hydra.runtime.choices[group] = single.hydra.runtime.choices[group]
        return config

    def _changes_own_part_only(self, choice: Override) -> bool:
        """Returns whether a chosen file changes the part named as its group, and nothing else."""
        is_file = self._chooses_file(choice) and isinstance(choice.value(), str)
        is_simple = choice.type == OverrideType.CHANGE and choice.package is None
        if not (is_file and is_simple):
            return False
        group = choice.key_or_group
        file = self._loader.repository.load_config(f"{group}/{choice.value()}")
        if file is None or file.defaults_list:
            return False
        return file.header.get("package") in (None, group, "_group_")

    def _asks_by_interpolation(self, master_config: DictConfig) -> bool:
        """Returns whether some file is named by interpolation of other choices.

        Then several choices together may ask for a file that none of them asks for alone.
        """
        if self._interpolated is None:
            hydra_overrides = OmegaConf.to_container(master_config.hydra.overrides.hydra)
            name = master_config.hydra.job.config_name
            listed = self._loader.compute_defaults_list(name, hydra_overrides, RunMode.RUN)
            paths = [file.config_path for file in listed.defaults if file.config_path is not None]
            self._interpolated = any(self._has_interpolated_default(path) for path in paths)
        return self._interpolated

    def _has_interpolated_default(self, path: str) -> bool:
        defaults = self._loader.repository.load_config(path).defaults_list or ()
        return any("${" in _default_name(default) for default in defaults)

    def _is_plain(self, override: Override) -> bool:
        """Returns whether an override sets an existing value, and nothing else."""
        changes = override.type == OverrideType.CHANGE and override.package is None
        special = override.is_hydra_override() or override.is_sweep_override()
        if not changes or special:
            return False
        return not isinstance(override.value(), dict) and not self._chooses_file(override)

    def _chooses_file(self, override: Override) -> bool:
        return self._loader.repository.group_exists(override.key_or_group)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def _line(override: Override) -> str:
    """Returns the override as it was written; parsed overrides always have it."""
    return str(override.input_line)


def _compressed(config: DictConfig) -> bytes | DictConfig:
    """Returns the configuration compressed, or as it is where it cannot be pickled.

    That is so where a plugin's class was defined anew since it was registered, or where a value is
    of a local class.
    """
    try:
        return zlib.compress(pickle.dumps(config), 1)
    except pickle.PicklingError:
        return config


def _default_name(default: Any) -> str:
    if isinstance(default, GroupDefault):
        return f"{default.group}{default.value}"
    return str(default.path)


def _record_overrides(config: DictConfig, overrides: list[Override]) -> None:
    """Writes a job's overrides into Hydra's part of its configuration."""
    with open_dict(config):
        config.hydra.overrides.task = [_line(override) for override in overrides]
        # Hydra 1.4 derives the name from the overrides when it is read, 1.3 when it composes.
        if not OmegaConf.is_interpolation(config.hydra.job, "override_dirname"):
            config.hydra.job.override_dirname = _folder_name(config, overrides)


def _folder_name(config: DictConfig, overrides: list[Override]) -> str:
    naming = config.hydra.job.config.override_dirname
    named = sorted(
        _line(override)
        for override in overrides
        if override.key_or_group not in naming.exclude_keys
    )
    return naming.item_sep.join(named).replace("=", naming.kv_sep)
