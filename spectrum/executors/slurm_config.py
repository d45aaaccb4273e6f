"""What the runs of a study or search ask of a Slurm cluster."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from spectrum.errors import FieldError
from spectrum.fields import Config


class SlurmConfig(Config):
    """What each job asks of the cluster, as ``sbatch`` takes it. A job executes one run."""

    partition: str | None = None
    """Partition; None for the cluster's default, as for all that follow."""
    account: str | None = None
    """Account that is charged."""
    qos: str | None = None
    """Quality of service."""
    constraint: str | None = None
    """Features of the nodes."""
    timeout_min: Annotated[int, Field(ge=5, le=10**6)] = 240
    """Time limit in minutes. A run that isn't finished by then continues in another job."""
    cpus_per_task: Annotated[int, Field(gt=0, le=1024)] | None = None
    """CPUs; None for the CPU threads of a run."""
    mem_gb: Annotated[float, Field(gt=0, le=10**5)] | None = None
    """Memory in GiB."""
    gres: str | None = None
    """Generic resources, such as ``gpu:a100:1``; None for one GPU per node on ``cuda``."""
    setup: tuple[str, ...] = ()
    """Commands of the shell that come first in each job, such as ``module load cuda``."""
    options: dict[str, str | int | bool] = {}
    """Other options of ``sbatch`` by their long names; true for one without a value."""

    @classmethod
    def parse(cls, value: Any) -> SlurmConfig:
        """The configuration that a table of fields or the text ``field=value,field=value`` means.

        Raises:
            FieldError: it is neither, or a field is unknown or has a value that it can't have.
        """
        if isinstance(value, cls):
            return value
        table = value
        if isinstance(value, str):
            pairs = [part.split("=", 1) for part in value.split(",")]
            table = dict(pairs) if all(len(pair) == 2 for pair in pairs) else None
        if not isinstance(table, dict):
            raise FieldError("slurm", value, "must be fields such as partition=gpu,timeout_min=240")
        try:
            return cls.checked(table)
        except FieldError as error:
            if isinstance(value, str):
                raise FieldError("slurm", value, f"is wrong: {error}") from None
            raise error.renamed(f"slurm.{error.field}") from None
