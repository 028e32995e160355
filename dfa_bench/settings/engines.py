"""Where runs are done, from configs/engine/: an engine's own settings, which change no run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, TypeAdapter, ValidationError
from yaml import YAMLError

from dfa_bench.errors import ConfigError, did_you_mean
from dfa_bench.settings.resources import resource_folder
from dfa_bench.settings.schema import Count, NotNegative, Positive, Strict, explain

PREFIX = "engine."  # of a setting on the command line


class LocalSettings(Strict):
    name: Literal["local"]
    jobs: Count | None = None
    per_gpu: Count | Literal["auto"] = 1


class SlurmSettings(Strict):
    name: Literal["slurm"]
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    minutes: Count = 240
    signal_seconds: Count = 90
    cpus: Count = 2
    gpus: Annotated[int, Field(ge=0)] = 0
    memory_gb: Positive = 8
    array: Count = 1000
    jobs: Count = 64
    setup: tuple[str, ...] = ()


class RaySettings(Strict):
    name: Literal["ray"]
    address: str | None = None
    cpus: Positive = 1
    gpus: NotNegative = 0
    jobs: Count | None = None


EngineSettings = Annotated[LocalSettings | SlurmSettings | RaySettings, Field(discriminator="name")]


def engine_names() -> list[str]:
    return sorted(path.stem for path in resource_folder("configs").glob("engine/*.yaml"))


def engine_settings(name: str, given: Sequence[str], jobs: int | None) -> Any:
    """The settings of an engine.

    Args:
        name: of its file in configs/engine/.
        given: of the user, "engine.partition=gpu".
        jobs: how many runs at a time; None: as the file says.

    Raises:
        ConfigError: there is no such setting, or a value is impossible.
    """
    file = resource_folder("configs") / "engine" / f"{name}.yaml"
    try:
        values: Any = OmegaConf.to_container(OmegaConf.load(file))
        chosen: Any = OmegaConf.to_container(OmegaConf.from_dotlist([each.removeprefix(PREFIX) for each in given]))
    except (YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{' '.join(given)}: {str(error).splitlines()[0]}") from None
    known = [key for key in values if key != "name"]
    if unknown := [key for key in chosen if key not in values]:
        raise ConfigError(
            f"unknown setting '{PREFIX}{unknown[0]}'.{did_you_mean(unknown[0], known)} configs/engine/{file.name} has "
            f"{', '.join(known)}."
        )
    values |= chosen
    if jobs is not None:
        values["jobs"] = jobs
    try:
        return TypeAdapter(EngineSettings).validate_python(values)
    except ValidationError as error:
        # The first part of a place is the name of the engine.
        raise ConfigError(explain(error, prefix="").replace(f"{name}.", PREFIX)) from None
