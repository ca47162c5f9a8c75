"""Composes the jobs of a sweep from what was read once. Imports nothing heavy: Hydra loads every module beside a plugin at each start."""

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


class ComposeOnce:
    """A config loader that reads files once for every choice of a file, and sets the plain values of each job in a copy.

    Composing takes Hydra more than a tenth of a second, a copy and its values a few milliseconds. In a large sweep, choices
    that touch nothing but their own part of the configuration are composed one by one, and put together for the jobs. What was
    read is kept, so that a file edited during the sweep changes none of its jobs.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._parser = OverridesParser.create()
        self._parsed: dict[str, Override] = {}
        self._composed: dict[tuple[str, ...], bytes | DictConfig] = {}
        self._alone: dict[str, DictConfig] = {}
        self._interpolated: bool | None = None

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """The configuration of one job, as Hydra composes it."""
        for line in sweep_overrides:
            if line not in self._parsed:
                self._parsed[line] = self._parser.parse_override(line)
        overrides = [self._parsed[line] for line in sweep_overrides]
        plain = [override for override in overrides if self._is_plain(override)]
        if len(plain) < len(overrides) - sum(
            self._chooses_file(override) for override in overrides
        ):
            plain = []  # additions, deletions, packages: their order matters, so all is Hydra's
        base = tuple(override.input_line for override in overrides if override not in plain)
        config = self._base(master_config, base)
        try:
            for override in plain:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:
            return self._loader.load_sweep_config(
                master_config, list(sweep_overrides)
            )  # which says what is wrong
        _name_overrides(config, overrides)
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def _base(self, master_config: DictConfig, overrides: tuple[str, ...]) -> DictConfig:
        """A copy of what these overrides give."""
        if overrides not in self._composed:
            composed = self._put_together(master_config, overrides)
            if composed is None:
                composed = self._loader.load_sweep_config(master_config, list(overrides))
            try:
                self._composed[overrides] = zlib.compress(pickle.dumps(composed), 1)
            except pickle.PicklingError:  # a plugin's class was defined anew since it was registered, or a value is of a local class
                self._composed[overrides] = composed
        kept = self._composed[overrides]
        return (
            pickle.loads(zlib.decompress(kept)) if isinstance(kept, bytes) else copy.deepcopy(kept)
        )

    def _put_together(
        self, master_config: DictConfig, overrides: tuple[str, ...]
    ) -> DictConfig | None:
        """Several choices of files from the composition of each alone; None where that may not be what Hydra composes, or does not pay yet."""
        choices = [self._parsed[line] for line in overrides]
        unread = [line for line in overrides if line not in self._alone]
        distinct = len({choice.key_or_group for choice in choices}) == len(choices)
        if (
            len(choices) < 2
            or not distinct
            or len(unread) > len(self._composed)
            or self._asks_by_interpolation(master_config)
        ):
            return None
        if not all(self._touches_itself_alone(self._parsed[line]) for line in unread):
            return None
        for line in unread:
            self._alone[line] = self._loader.load_sweep_config(master_config, [line])
        config = self._base(master_config, ())
        with open_dict(config):
            for alone, group in (
                (self._alone[choice.input_line], choice.key_or_group) for choice in choices
            ):
                config[group] = alone[group]
                config.hydra.runtime.choices[group] = alone.hydra.runtime.choices[group]
        return config

    def _touches_itself_alone(self, choice: Override) -> bool:
        """Whether the chosen file asks for no others and goes to the part of the configuration that is named as its group."""
        if (
            not self._chooses_file(choice)
            or choice.type != OverrideType.CHANGE
            or choice.package is not None
            or not isinstance(choice.value(), str)
        ):
            return False
        group = choice.key_or_group
        read = self._loader.repository.load_config(f"{group}/{choice.value()}")
        return (
            read is not None
            and not read.defaults_list
            and read.header.get("package") in (None, group, "_group_")
        )

    def _asks_by_interpolation(self, master_config: DictConfig) -> bool:
        """Whether some file is asked for by the names of others, so that several choices together may bring one that each alone does not."""
        if self._interpolated is None:
            asked = OmegaConf.to_container(master_config.hydra.overrides.hydra)
            found = self._loader.compute_defaults_list(
                master_config.hydra.job.config_name, asked, RunMode.RUN
            ).defaults
            read = (
                self._loader.repository.load_config(file.config_path)
                for file in found
                if file.config_path is not None
            )
            wanted = (one for file in read for one in file.defaults_list or ())
            self._interpolated = any(
                "${"
                in (f"{one.group}{one.value}" if isinstance(one, GroupDefault) else str(one.path))
                for one in wanted
            )
        return self._interpolated

    def _is_plain(self, override: Override) -> bool:
        """Whether an override sets a value that is there, and nothing else."""
        change = override.type == OverrideType.CHANGE and override.package is None
        return (
            change
            and not override.is_hydra_override()
            and not override.is_sweep_override()
            and not isinstance(override.value(), dict)
            and not self._chooses_file(override)
        )

    def _chooses_file(self, override: Override) -> bool:
        return self._loader.repository.group_exists(override.key_or_group)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def _name_overrides(config: DictConfig, overrides: list[Override]) -> None:
    """Write into Hydra's part what it says of a job's overrides."""
    naming = config.hydra.job.config.override_dirname
    lines = [override.input_line for override in overrides]
    named = sorted(
        override.input_line
        for override in overrides
        if override.key_or_group not in naming.exclude_keys
    )
    with open_dict(config):
        config.hydra.overrides.task = lines
        config.hydra.job.override_dirname = naming.item_sep.join(named).replace("=", naming.kv_sep)
