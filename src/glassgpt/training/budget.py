"""How large a model to train, on how many tokens, in the minutes there are.

A plan is plain arithmetic over what was measured (`training.speed`) and what is known of the text: for every size on a
ladder, as many tokens as there is time for; of these pairs the one of which `training.forecast` expects the lowest
loss. The steps are fixed by it before the first one, because the rates, and an exact resume, depend on their number: a
machine that becomes slower makes the training longer, not the steps fewer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.training.forecast import Range, Text, expected_loss
from glassgpt.training.settings import DataSettings, Recipe

# Layers, width, context. Wider heads pay from a width of 192 on.
LADDER = ((1, 64, 64), (2, 64, 64), (2, 96, 64), (2, 128, 64), (3, 128, 64), (4, 128, 64), (4, 192, 128),
          (5, 224, 128), (6, 256, 256), (6, 320, 256), (6, 384, 256), (8, 448, 256), (8, 512, 256), (10, 640, 256),
          (12, 768, 256))  # fmt: skip
LARGEST = 60 * 24 * 30  # minutes
MAX_EPOCHS = 15.0  # more readings of the same text teach little but the text itself
LEAST_STEPS = 20
# Of the time left: a reserve, evaluations before the last, and where it will really end (its lower and upper end).
RESERVE, BETWEEN, FASTER, SLOWER = 0.06, 0.05, 0.75, 1.3
END_SECONDS = 4.0  # saving the model, plotting, measuring the machine again
_TOKENS = np.unique(np.geomspace(256, 1e12, 1200).astype(np.int64))  # what a plan may read

# The held-out loss stays higher while the rate is high, and ends lower: most where a text is read more than once.
WEIGHT_DECAY = 0.3
# Short trainings are over before the defaults' slow averages and warm-up pay.
SHORT_STEPS = 500
SHORT: dict[str, Any] = {"lr": 0.005, "matrix_lr": 0.02, "momentum": 0.9, "ns_steps": 3, "warmup": 0.0, "decay": 0.6,
                         "beta1": 0.8, "clip": 0.0}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """A network of our recipe, `vocab_size` V: layers, width C, context T."""

    n_layer: int
    n_embd: int
    context: int
    vocab_size: int

    @property
    def matrices(self) -> int:
        """Numbers in the blocks' matrices: 4 C² of attention and 8 C² of the MLP in each."""
        return 12 * self.n_layer * self.n_embd**2

    @property
    def flops(self) -> int:
        """Floating-point operations that a token costs in training: a product forwards and two backwards."""
        attention = 2 * self.n_layer * self.n_embd * self.context
        return 6 * (self.matrices + self.vocab_size * self.n_embd + attention)


def sizes(vocab_size: int, train_tokens: int, held_out_tokens: int) -> list[Size]:
    """The sizes that a text of so many tokens can use, smallest first: at most 8 weights for a token, and windows of
    which at least 4 are held out."""
    longest = max(16, min(held_out_tokens // 4, train_tokens // 32))
    fitting = [Size(layers, width, min(context, 1 << (longest.bit_length() - 1)), vocab_size)
               for layers, width, context in LADDER]  # fmt: skip
    return [size for size in fitting if size is fitting[0] or size.matrices <= 8 * train_tokens]


def batch_tokens(tokens: int) -> int:
    """Tokens of a step: the more a training reads, the larger its steps may be."""
    wanted = 1024 * (tokens / 262_144) ** 0.6
    return 1024 * min(32, round(wanted / 1024)) if wanted >= 1024 else 1 << max(7, round(math.log2(wanted)))


def step_tokens(tokens: int, size: Size) -> int:
    """The same in whole windows of a size."""
    return max(1, batch_tokens(tokens) // size.context) * size.context


def dropout(epochs: float) -> float:
    """The more often a text is read, the more a network must be kept from learning it by heart."""
    return 0.0 if epochs < 4 else 0.05 if epochs < 9 else 0.1


def recipe_for(base: Recipe, size: Size, tokens: int, epochs: float, *, rates: bool = True) -> Recipe:
    """`base` with this size, as many steps as read `tokens` and, with `rates`, the learning rates for so many steps."""
    head = 64 if size.n_embd % 64 == 0 and size.n_embd > 128 else 32
    model: dict[str, Any] = {"n_layer": size.n_layer, "n_head": size.n_embd // head, "n_embd": size.n_embd,
                             "dropout": dropout(epochs)}  # fmt: skip
    batch = step_tokens(tokens, size) // size.context
    steps = max(1, tokens // (batch * size.context))
    train = replace(base.train, batch=batch, context=size.context, steps=steps, accumulate=1)
    if rates:
        train = replace(train, weight_decay=WEIGHT_DECAY, **(SHORT if steps < SHORT_STEPS else {}))
    return replace(base, model=base.model | model, train=train)


def choose_data(texts: Iterable[str]) -> DataSettings:
    """How texts become tokens: characters where few different ones make up less than 2 MB, else byte pairs, with more
    of them the more text there is to learn them from. At most about 400,000 characters are held out."""
    kinds: set[str] = set()
    characters = bytes_ = 0
    for text in texts:
        kinds.update(text)
        characters += len(text)
        bytes_ += len(text.encode("utf-8", "replace"))
    pieces = max(2 * bytes_**0.5, len(kinds) / 1.2, 1)
    return DataSettings(
        tokenizer="characters" if len(kinds) < 100 and bytes_ < 2_000_000 else "bpe",
        vocab_size=min(16384, max(512, 1 << round(math.log2(pieces)))),
        validation=min(0.1, max(0.001, 400_000 / max(1, characters))),
    )


@dataclass(frozen=True)
class Speed:
    """What a size takes on this machine: seconds for a token, forwards and back, and for a step's update."""

    size: Size
    token_s: float
    step_s: float


@dataclass(frozen=True)
class Plan:
    """What will be trained and what is expected of it. `minutes` count from the start of the program."""

    size: Size
    recipe: Recipe
    tokens: int
    epochs: float
    val_loss: Range
    minutes: Range
    tokens_s: float  # with updates, without evaluations
    capped: bool  # by the text: there is time for more


def check_minutes(minutes: float) -> float:
    """The minutes, if they can be planned with; raises ConfigError."""
    if not 0 < minutes <= LARGEST:
        raise ConfigError(
            "minutes is {value}; expected a number above 0 and at most {most}", value=f"{minutes:g}", most=LARGEST
        )
    return minutes


def make_plan(
    base: Recipe, text: Text, speeds: Sequence[Speed], minutes: float, spent: float, *, rates: bool = True
) -> Plan:
    """The best training of `minutes`, of which `spent` seconds are over.

    Args:
        rates: learning rates are chosen too, not taken from `base`.

    Raises:
        InputError: there is not enough time for some steps of the smallest size and one evaluation.
    """
    left = 60 * minutes - spent
    best: Plan | None = None
    least = math.inf
    for size in sizes(text.vocab_size, text.train_tokens, text.held_out_tokens):
        token_s, step_s = interpolate(speeds, size)
        evaluation = evaluation_seconds(size, token_s, text.held_out_tokens)
        fixed = END_SECONDS + evaluation
        most = int(MAX_EPOCHS * text.train_tokens)
        allowed = np.append(_TOKENS[: np.searchsorted(_TOKENS, most)], most)
        needed = np.array([training_seconds(int(n), size, token_s, step_s) for n in allowed])
        enough = allowed >= np.array([LEAST_STEPS * step_tokens(int(n), size) for n in allowed])
        enough[-1] = True  # of a tiny text there is no more
        fits = needed <= (1 - RESERVE - BETWEEN) * left - fixed
        least = min(least, (fixed + needed[enough].min(initial=math.inf)) / (1 - RESERVE - BETWEEN))
        if not (fits & enough).any():
            continue
        place = int(np.flatnonzero(fits & enough)[-1])
        tokens, seconds = int(allowed[place]), float(needed[place])
        loss = expected_loss(text, size.matrices, tokens)
        if best is not None and loss.middle >= best.val_loss.middle:
            continue
        epochs = tokens / text.train_tokens
        recipe = recipe_for(base, size, tokens, epochs, rates=rates)
        between = min(5, int(BETWEEN * left / evaluation), recipe.train.steps // LEAST_STEPS)
        gap = -(-recipe.train.steps // (between + 1))
        recipe = replace(recipe, train=replace(recipe.train, evaluate_every=gap, checkpoint_every=0))
        rest = seconds + fixed + between * evaluation
        ends = Range(*((spent + share * rest) / 60 for share in (FASTER, 1.0, SLOWER)))
        capped = place == len(allowed) - 1
        best = Plan(size, recipe, tokens, epochs, loss, ends, tokens / seconds, capped)
    if best is None:
        raise InputError(
            "{minutes} minutes are too few: {spent:.0f} s are over, and training takes {least:.0f} s here at least",
            hint="Give more minutes with --minutes.",
            minutes=f"{minutes:g}",
            spent=spent,
            least=least,
        )
    return best


def training_seconds(tokens: int, size: Size, token_s: float, step_s: float) -> float:
    """How long reading `tokens` takes, with updates and without evaluations."""
    return tokens * token_s + tokens / step_tokens(tokens, size) * step_s


def evaluation_seconds(size: Size, token_s: float, held_out_tokens: int) -> float:
    """How long an evaluation takes, with the text it writes and the checkpoint after it."""
    parameters = size.matrices + size.vocab_size * size.n_embd
    forward = 0.4 * token_s  # a third of the products of training
    return held_out_tokens * forward + 0.5 + 12 * parameters / 200e6


def interpolate(speeds: Sequence[Speed], size: Size) -> tuple[float, float]:
    """Seconds for a token and for an update of a size, by operations per token: in a line of logarithms between those
    measured, in proportion above them, as the smallest below."""
    x = np.log([speed.size.flops for speed in speeds])
    at = float(np.log(size.flops))
    measured = ([s.token_s for s in speeds], [s.step_s for s in speeds])
    token, step = (math.exp(np.interp(at, x, np.log(y)) + max(0.0, at - x[-1])) for y in measured)
    return token, step
