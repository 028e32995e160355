"""A finished run, read back from the folder of its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn
from yaml import YAMLError

from dfa_bench.errors import ConfigError, RecordError
from dfa_bench.runs.record import Record
from dfa_bench.settings.schema import RunSettings, parse_settings
from dfa_bench.settings.trust import Untrusted
from dfa_bench.training.checkpoint import read_tensors


def settings_of_record(folder: Path) -> RunSettings:
    """The settings of a finished run.

    Raises:
        ConfigError: the folder is not a record, or the run is not finished.
        RecordError: config.yaml is damaged, or was written by a different version.
    """
    record = Record(folder)
    if not record.config.is_file() or not record.model.is_file():
        raise ConfigError(f"{folder} is not the record of a finished run. `dfa-bench run` prints its record's folder.")
    return settings_of(record)


def settings_of(record: Record) -> RunSettings:
    """The settings that a record was made with. They are plain values: nothing in them is looked up or executed.

    Raises:
        RecordError: config.yaml is missing, damaged, or was written by a different version, or names code that is not
            trusted.
    """
    try:
        values = OmegaConf.to_container(OmegaConf.load(record.config))
        assert isinstance(values, dict)
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError, AssertionError) as error:
        raise RecordError(f"{record.config} is damaged. Run it again, or delete the folder.") from error
    try:
        return parse_settings({str(key): value for key, value in values.items()})
    except Untrusted as error:
        raise RecordError(f"{record.config}: {error}") from None
    except ConfigError as error:
        raise RecordError(
            f"{record.config} is damaged, or was written by a different version of dfa-bench ({error}). Run it again "
            f"or delete the folder."
        ) from None


def trained_parts(folder: Path) -> dict[str, Any]:
    """What model.pt of a finished run holds: the tested weights as "model", the feedback matrices as "attachment".

    Raises:
        RecordError: the file is damaged, or was left out when the record was packed.
    """
    path = Record(folder).model
    try:
        parts = read_tensors(path)
    except FileNotFoundError:
        raise RecordError(
            f"{path} is not there: the run diverged, or its record came without weights. Run it again with force=true."
        ) from None
    except RecordError as error:
        raise RecordError(f"{error} Run it again with force=true.") from error
    if not {"model", "attachment"} <= parts.keys():
        raise RecordError(f"{path} holds no trained run. Run it again with force=true.")
    return parts


def with_trained_weights(model: nn.Module, folder: Path) -> nn.Module:
    """A model with the tested weights of a finished run, in evaluation mode on the CPU.

    Raises:
        RecordError: see `trained_parts`.
    """
    model.load_state_dict(trained_parts(folder)["model"])
    return model.eval()
