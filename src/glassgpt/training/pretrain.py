"""Training a model from scratch on plain text, by a recipe."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from glassgpt.core.config import settings_from
from glassgpt.core.errors import InputError
from glassgpt.core.runs import HELD_OUT, MODEL, TOKENIZER, TRAIN, Run
from glassgpt.data.batches import Batch, TextBatches
from glassgpt.data.examples import Example
from glassgpt.data.rows import Row
from glassgpt.data.shards import Shards, open_shards, write_shards
from glassgpt.evaluation.held_out import held_out_windows, tensors_of
from glassgpt.formats.checkpoint import load_checkpoint, save_checkpoint, write_checkpoint
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.text.bpe import train_bpe, train_characters
from glassgpt.text.tokenizer import Tokenizer
from glassgpt.training.loop import Event, Result, Stage, best_checkpoint, held_out_loss, train
from glassgpt.training.machine import on_this_machine
from glassgpt.training.optim import AdamW, Muon, Optimizer
from glassgpt.training.settings import DataSettings, Recipe, TrainSettings

PASS_TOKENS = 1024
MANY = 20  # from so many texts on, some are held out whole


@dataclass(frozen=True)
class Pretrained:
    """What a finished training leaves: how it ended, the network as it was at its best, and its tokenizer."""

    result: Result
    network: GPT
    tokenizer: Tokenizer


def prepare(
    run: Run, rows: Iterable[Row], recipe: Recipe, plan: Callable[[Recipe], Recipe] = lambda recipe: recipe
) -> Recipe:
    """Train a new run's tokenizer, cut its text into shards, and put the recipe, with what was left open decided, into
    run.json; gives that recipe.

    Of a few long texts the last share of each (`recipe.data.validation`, by characters) is held out: what comes later
    in a text is what a model must predict. Of many texts (`MANY`), so large a share of them, whole, as chance has it.
    `plan` may change the sizes once the text lies in tokens.

    Raises:
        InputError: there is too little text for one window on either side.
        ConfigError: the recipe's network cannot be made.
    """
    recipe = replace(recipe, train=on_this_machine(recipe.train))
    network_config(recipe, vocab_size=256)  # what is wrong with the network is told before the text is read
    train_settings, folder = recipe.train, run.folder
    rows = list(rows)
    sides = _sides(rows, recipe.data.validation, recipe.train.seed)
    tokenizer = _tokenizer(rows, sides, recipe.data)
    tokenizer.save(folder / TOKENIZER)
    short = 0
    for place, examples in zip((TRAIN, HELD_OUT), _examples(rows, sides, tokenizer), strict=True):
        long_enough = [e for e in examples if len(e.ids) > 1]  # in one token there is nothing to predict
        short += len(examples) - len(long_enough)
        tokens = write_shards(long_enough, folder / place, tokenizer).tokens if long_enough else 0
        if tokens < train_settings.context + 2:
            raise InputError(
                "{part} has {tokens} tokens; one window of {context} does not fit",
                hint="Give more text, or a shorter context (--set train.context=...).",
                part=place,
                tokens=tokens,
                context=train_settings.context,
            )
    recipe = plan(recipe)
    run.update(kind="pretrain", status="ready", recipe=asdict(recipe), threads=torch.get_num_threads(),
               left_out=short)  # fmt: skip
    return recipe


def pretrain(
    run: Run, *, resume: bool = False, until: float | None = None, watch: Callable[[Event], None] = lambda event: None
) -> Pretrained:
    """Train the run that `prepare` made (or go on with it) and leave the best model in its `model/`."""
    recipe = settings_from(Recipe, run.about["recipe"])
    torch.set_num_threads(run.about["threads"])  # sums are grouped by thread: another count gives other bits
    tokenizer = Tokenizer.from_file(run.folder / TOKENIZER)
    shards = open_shards(run.folder / TRAIN, tokenizer)
    held_out = open_shards(run.folder / HELD_OUT, tokenizer)
    network = make_network(recipe, tokenizer.vocab_size).to(recipe.train.device)
    batches = TextBatches(shards, recipe.train.batch, recipe.train.context, recipe.train.seed)
    parts = held_out_windows(held_out, recipe.train.context)

    # Something for every worker, and no more at a time than stays in a core's cache.
    rows = min(PASS_TOKENS // recipe.train.context, -(-recipe.train.batch // torch.get_num_threads()))
    stage = Stage(
        network=network,
        optimizers=make_optimizers(network, recipe.train),
        batches=lambda step: [
            part
            for i in range(recipe.train.accumulate)
            for part in batches(step * recipe.train.accumulate + i).split(rows)
        ],
        loss=text_loss(recipe.train.compile),
        evaluate=lambda workers: held_out_loss(workers, parts),
        save=lambda folder: write_checkpoint(folder, network, tokenizer),
        load=lambda folder: _load(network, folder),
        sample=lambda: sample_texts(network, tokenizer, tokens_of(held_out), recipe.train),
    )
    run.update(status="training")
    result = train(stage, recipe.train, run, resume=resume, until=until, watch=watch)
    progress = result.progress
    if place := best_checkpoint(run, progress, recipe.train.steps, watch):
        _load(network, place)
    save_checkpoint(run.folder / MODEL, network.eval(), tokenizer)
    run.update(status="stopped" if result.signal else "finished", progress=progress.facts())
    return Pretrained(result, network, tokenizer)


def network_config(recipe: Recipe, vocab_size: int) -> ModelConfig:
    """What the recipe says of its network; raises ConfigError."""
    make = ModelConfig.modern if recipe.base == "modern" else ModelConfig.gpt2
    sizes = {"context_length": recipe.train.context, "vocab_size": vocab_size}
    return make(**(sizes | recipe.model))


def make_network(recipe: Recipe, vocab_size: int) -> GPT:
    """The recipe's network with its first weights, which are a function of the seed."""
    torch.manual_seed(recipe.train.seed)
    network = GPT(network_config(recipe, vocab_size))
    if recipe.base == "modern":
        start_quietly(network)
    return network.train()


@torch.no_grad()
def start_quietly(network: GPT) -> None:
    """First weights for Muon: every block adds nothing at first (its last projections are zero), and the matrices
    before keep the size of what they read."""
    for name, p in network.named_parameters():
        if p.ndim == 2 and name.startswith("blocks."):
            if name.endswith(("out_proj.weight", "down.weight")):
                nn.init.zeros_(p)
            else:
                nn.init.normal_(p, std=0.58 * p.shape[1] ** -0.5)


def make_optimizers(network: nn.Module, settings: TrainSettings) -> list[Optimizer]:
    """Muon (or AdamW) for the trained matrices in the blocks, AdamW for everything else."""
    trained: dict[str, Tensor] = {name: p for name, p in network.named_parameters() if p.requires_grad}
    matrices = {n: p for n, p in trained.items() if p.ndim == 2 and n.startswith("blocks.")}
    embeddings = {n: p for n, p in trained.items() if n in ("embed.weight", "ngrams.weight")}
    rest = {n: p for n, p in trained.items() if n not in matrices and n not in embeddings}
    betas = (settings.beta1, settings.beta2)

    def adamw(parameters: dict[str, Tensor], lr: float, prefix: str) -> list[Optimizer]:
        decay = settings.weight_decay if prefix == "matrices" else 0.0
        return [AdamW(parameters, lr, betas, weight_decay=decay, name=prefix)] if parameters else []

    made: list[Optimizer] = []
    if settings.optimizer == "adamw":
        made += adamw(matrices, settings.lr, "matrices")
    elif matrices:
        precision = torch.bfloat16 if settings.precision == "bfloat16" else torch.float32
        made.append(
            Muon(
                matrices,
                settings.matrix_lr,
                settings.momentum,
                settings.weight_decay,
                settings.ns_steps,
                precision,
                settings.row_beta,
            )
        )
    made += adamw(embeddings, settings.embed_lr or settings.lr, "embeddings")
    return made + adamw(rest, settings.lr, "rest")


def text_loss(compiled: bool) -> Callable[[GPT, Batch], Tensor]:
    """The loss of a batch, summed over its tokens; `compiled` by torch's compiler, which needs a C++ compiler."""

    def loss(network: GPT, ids: Tensor, targets: Tensor, segments: Tensor | None) -> Tensor:
        logits = network(ids, segments=segments).float()  # [B, T, V]
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")

    fast = torch.compile(loss) if compiled else loss

    def of_batch(network: GPT, batch: Batch) -> Tensor:
        return fast(network, *tensors_of(batch, network.embed.weight.device))

    return of_batch


def sample_texts(network: GPT, tokenizer: Tokenizer, held_out: np.ndarray, settings: TrainSettings) -> list[str]:
    """A text that the network goes on with from the beginning of the held-out text: the same prompt every time."""
    if not settings.sample_tokens:
        return []
    from glassgpt.engine.language_model import LanguageModel

    model = LanguageModel("sample", network, tokenizer, "float32")
    prompt = held_out[: min(16, settings.context // 2)].tolist()
    room = min(settings.sample_tokens, settings.context - len(prompt))
    written = model.generate(prompt, max_new_tokens=room, temperature=0.8, seed=1)
    return [tokenizer.decode(prompt) + completion.text for completion in written]


def tokens_of(shards: Shards) -> np.ndarray:
    """All tokens of some shards, in order."""
    return np.asarray(shards.tokens(0, len(shards)))


def _sides(rows: list[Row], share: float, seed: int) -> list[float]:
    """How much of each text is trained on, from its beginning: 1 all, 0 nothing."""
    if len(rows) < MANY:
        return [1 - share] * len(rows)
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    held_out = set(order[: max(1, round(share * len(rows)))])
    return [float(i not in held_out) for i in range(len(rows))]


def _tokenizer(rows: list[Row], sides: list[float], data: DataSettings) -> Tokenizer:
    if data.tokenizer == "characters":  # the held-out part may hold a character that the rest lacks
        return train_characters(_text(row) for row in rows)
    texts = (_text(row)[: _cut(row, side)] for row, side in zip(rows, sides, strict=True))
    return train_bpe(texts, data.vocab_size)


def _cut(row: Row, side: float) -> int:
    return round(len(_text(row)) * side)


def _text(row: Row) -> str:
    """All that a row says: of a conversation every message."""
    return "\n".join(row.texts)


def _examples(rows: list[Row], sides: list[float], tokenizer: Tokenizer) -> tuple[list[Example], list[Example]]:
    """What is trained on and what is held out. A whole text ends with the end token; of one that is cut, the held-out
    part begins with the last token of the other: from that its own first token is predicted."""
    train: list[Example] = []
    held_out: list[Example] = []

    def add(side: list[Example], ids: list[int], row: Row) -> None:
        side.append(Example(ids, [True] * len(ids), row.source, row.number))

    end = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    for row, side in zip(rows, sides, strict=True):
        text, cut = _text(row), _cut(row, side)
        before, after = (tokenizer.encode(part, add_bos=False) for part in (text[:cut], text[cut:]))
        if 0 < side < 1:
            add(train, before, row)
            add(held_out, before[-1:] + after, row)
        else:
            add(train if side else held_out, before + after + end, row)
    return train, held_out


def _load(network: GPT, folder: Path) -> None:
    saved = load_checkpoint(folder, torch.float32).network.state_dict()
    with torch.no_grad():
        for name, p in network.named_parameters():
            p.copy_(saved[name])
