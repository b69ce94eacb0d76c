"""What a training is told: the settings of the loop, and recipes, the TOML files that hold them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from glassgpt.core.config import override, read_toml, settings_from
from glassgpt.core.errors import ConfigError
from glassgpt.training.optim import Schedule

Precision = Literal["auto", "float32", "bfloat16"]
MOST_SNAPSHOTS = 1000


@dataclass(frozen=True)
class TrainSettings:
    """How the one loop trains.

    Sizes: `batch` sequences of `context` tokens a pass, `accumulate` passes a step, `steps` steps. `lr` is AdamW's
    rate, `embed_lr` that of the embeddings (0: as `lr`), `matrix_lr` Muon's, for the matrices inside the blocks (with
    `optimizer = "adamw"` they have `lr` too), with `momentum` and `row_beta` (`optim.Muon`). `warmup` and `decay` are
    shares of the steps. `clip` bounds the norm of the gradients (0: no bound). `device` is cpu, cuda, mps or auto; only
    the CPU is covered by tests. `patience` ends the training after so many evaluations without a better one (0: never).
    Besides `checkpoint_every`, a checkpoint is written after each better evaluation and when
    `loop.CHECKPOINT_SECONDS` passed without one. `snapshots` is how many times the weights alone are kept to look back
    on (0: never): as many of them as fit into `snapshot_mb` megabytes.

    Raises:
        ConfigError: a value is out of range.
    """

    steps: int = 1000
    batch: int = 8
    context: int = 256
    accumulate: int = 1
    optimizer: Literal["muon", "adamw"] = "muon"
    lr: float = 0.003
    embed_lr: float = 0.0
    matrix_lr: float = 0.02
    momentum: float = 0.95
    row_beta: float = 0.95
    ns_steps: int = 5
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.0
    schedule: Schedule = "wsd"
    warmup: float = 0.02
    decay: float = 0.4
    floor: float = 0.0
    clip: float = 1.0
    precision: Precision = "auto"
    device: str = "cpu"
    compile: bool = False
    seed: int = 1
    evaluate_every: int = 0  # steps; 0: at the end
    checkpoint_every: int = 0  # steps; 0: as often as it is evaluated
    patience: int = 0
    sample_tokens: int = 100
    snapshots: int = 10
    snapshot_mb: int = 100

    def __post_init__(self) -> None:
        least = {"steps": 1, "batch": 1, "context": 2, "accumulate": 1, "ns_steps": 1, "seed": 0, "evaluate_every": 0,
                 "checkpoint_every": 0, "patience": 0, "sample_tokens": 0, "snapshots": 0,
                 "snapshot_mb": 0}  # fmt: skip
        for name, bound in least.items():
            if not bound <= getattr(self, name) <= 1 << 40:
                raise ConfigError("{name} is {value}; expected {least} or more", name=name, value=getattr(self, name),
                                  least=bound)  # fmt: skip
        if self.snapshots > MOST_SNAPSHOTS:
            raise ConfigError("{name} is {value}; expected a whole number from {least} to {most}", name="snapshots",
                              value=self.snapshots, least=0, most=MOST_SNAPSHOTS)  # fmt: skip
        for name in ("lr", "matrix_lr"):
            if not 0 < getattr(self, name) < 10:
                raise ConfigError("{name} is {value}; expected a number above 0 and below 10", name=name,
                                  value=getattr(self, name))  # fmt: skip
        for name in ("embed_lr", "weight_decay", "clip"):
            if not 0 <= getattr(self, name) < 1e6:
                raise ConfigError("{name} is {value}; expected {least} or more", name=name, value=getattr(self, name),
                                  least=0)  # fmt: skip
        for name in ("warmup", "decay", "floor", "momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError("{name} is {value}; expected a number from 0 to 1", name=name,
                                  value=getattr(self, name))  # fmt: skip
        for name in ("beta1", "beta2", "row_beta"):  # AdamW divides by what they lack to 1
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError("{name} is {value}; expected 0 or more and less than 1", name=name,
                                  value=getattr(self, name))  # fmt: skip

    @property
    def evaluation_gap(self) -> int:
        """Steps between two evaluations."""
        return self.evaluate_every or self.steps

    @property
    def checkpoint_gap(self) -> int:
        """Steps between two checkpoints."""
        return self.checkpoint_every or self.evaluation_gap


@dataclass(frozen=True)
class LoraSettings:
    """The size of a low-rank correction; rank 0 trains all weights instead. Raises ConfigError."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.rank <= 1024:
            raise ConfigError("{name} is {value}; expected a whole number from {least} to {most}", name="rank",
                              value=self.rank, least=0, most=1024)  # fmt: skip
        check_above_0("alpha", self.alpha)
        if not 0 <= self.dropout < 1:
            raise ConfigError("{name} is {value}; expected 0 or more and less than 1", name="dropout",
                              value=self.dropout)  # fmt: skip


@dataclass(frozen=True)
class DataSettings:
    """What a recipe reads: the kind of tokenizer, its size, and the share that is held out."""

    tokenizer: Literal["bpe", "characters"] = "bpe"
    vocab_size: int = 4096
    validation: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.validation < 1:
            raise ConfigError("{name} is {value}; expected a number above 0 and below 1", name="validation",
                              value=self.validation)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """A training from scratch as one TOML file: `[model]` is `ModelConfig.modern`'s changes (or those of `base`)."""

    about: str = ""
    base: Literal["modern", "gpt2"] = "modern"
    model: dict[str, Any] = field(default_factory=dict)
    data: DataSettings = field(default_factory=DataSettings)
    train: TrainSettings = field(default_factory=TrainSettings)


def check_above_0(name: str, value: float) -> None:
    """Raise ConfigError unless it is a number above 0, and no absurd one."""
    if not 0 < value < 1e6:
        raise ConfigError("{name} is {value}; expected a number above 0", name=name, value=value)


def read_recipe(path: Path, changes: dict[str, Any] | None = None) -> Recipe:
    """A recipe, with `changes` (tables like the recipe's own) put over it; raises what `core.config` raises."""
    return settings_from(Recipe, override(read_toml(path), changes or {}))
