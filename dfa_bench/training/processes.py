"""Processes of one run that torchrun or srun has started, each with the same command line."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class ProcessPlace:
    """Where this process stands among those of a run."""

    rank: int = 0
    of: int = 1
    here: int = 1  # of them on this machine

    @property
    def leads(self) -> bool:
        return self.rank == 0


def place_among_processes() -> ProcessPlace:
    """By the environment of torchrun, or of a step of srun with several tasks."""
    get = os.environ.get
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return ProcessPlace(int(get("RANK", 0)), int(get("WORLD_SIZE", 1)), int(get("LOCAL_WORLD_SIZE", 1)))
    tasks, nodes = int(get("SLURM_STEP_NUM_TASKS", 1)), int(get("SLURM_STEP_NUM_NODES", 1))
    if "SLURM_PROCID" not in os.environ or tasks == 1:
        return ProcessPlace()
    return ProcessPlace(int(os.environ["SLURM_PROCID"]), tasks, tasks // nodes)
