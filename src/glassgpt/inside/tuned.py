"""The tuned lens: for each layer an affine map into the language of the last one, trained so that what is read there is
what the network says in the end (Belrose et al. 2023, arXiv:2303.08112).

Training compares scores of some hundred tokens only: those that the network finds likely anywhere in the batch and as
many by chance. Over a whole vocabulary it would take hours on a CPU; the loss that is reported is over the whole.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor
from torch.nn import functional as F

from glassgpt.core.errors import ConfigError, FormatError, InputError
from glassgpt.core.files import write_whole
from glassgpt.engine.language_model import LanguageModel
from glassgpt.engine.receipt import files_hash
from glassgpt.inside.lens import lens_scores, residual_streams
from glassgpt.inside.subject import Prompt, network_of
from glassgpt.model.gpt import GPT

_FORMAT = "glassgpt-tuned-lens-1"
_BESIDE = "tuned.lens"  # not .safetensors: loaders would take it for weights, and receipts name those by their hash
_WINDOW = 128  # tokens that are read at once
_LIKELY, _BY_CHANCE = 8, 512  # of each position, and of each step
_LEAST_TOKENS = 512
_own: WeakKeyDictionary[LanguageModel, tuple[int, TunedLens]] = WeakKeyDictionary()


class TunedLens:
    """Maps x + A x + b, one for the stream before each block.

    Attributes:
        weight, bias: A [L, C, C] and b [L, C] for L layers; the last layer needs none.
        losses: mean divergence from the network's own distribution in bits, on held-out text, without and with the
            maps.
        model_sha256: of the files of the model that it was trained for; empty where that lay in none.
    """

    def __init__(self, weight: Tensor, bias: Tensor, vocabulary: int, losses: tuple[float, float],
                 model_sha256: str = "") -> None:  # fmt: skip
        self.weight, self.bias, self.vocabulary, self.losses = weight, bias, vocabulary, losses
        self.model_sha256 = model_sha256

    def translate(self, stream: Tensor, layer: int) -> Tensor:
        """A stream [..., C] after the layer of that number (0: before the first block) in the last layer's language."""
        if not 0 <= layer < len(self.weight):
            return stream
        return stream + F.linear(stream, self.weight[layer].to(stream), self.bias[layer].to(stream))

    def check(self, network: GPT) -> None:
        """Raises ConfigError where it was trained for another kind of network."""
        config = network.config
        if self.weight.shape != (config.n_layer, config.n_embd, config.n_embd) or self.vocabulary != config.vocab_size:
            raise ConfigError("the tuned lens was trained for another model", hint="Train one for this model.")

    @classmethod
    def train(cls, model: LanguageModel, texts: Sequence[Prompt], *, minutes: float = 3.0, seed: int = 0,
              progress: Callable[[float, float], None] = lambda share, loss: None) -> TunedLens:  # fmt: skip
        """Train one on some texts or conversations, of which the last tenth is held out.

        Args:
            minutes: how long; what is measured before and after comes on top.
            progress: called with the share of the time that is over and the loss of the last step.

        Raises:
            InputError: the texts have less than 512 tokens.
            ConfigError: the minutes are none.
        """
        if not minutes > 0:
            raise ConfigError("minutes is {value}; expected a number above 0", value=minutes)
        network = network_of(model)
        windows = _windows(model, texts)
        held = max(1, len(windows) // 10)
        train, held_out = windows[:-held], windows[-held:][:8]
        layers, width = network.config.n_layer, network.config.n_embd
        device = network.embed.weight.device
        weight = torch.zeros(layers, width, width, device=device, requires_grad=True)
        bias = torch.zeros(layers, width, device=device, requires_grad=True)
        optimizer = torch.optim.AdamW([weight, bias], lr=_rate(width), weight_decay=0.0)
        random = torch.Generator().manual_seed(seed)
        began, best = time.monotonic(), None
        lens = cls(weight, bias, network.config.vocab_size, (0.0, 0.0))
        for batch in _forever(train, random):
            share = (time.monotonic() - began) / (60 * minutes)
            if share >= 1 and best is not None:
                break
            optimizer.param_groups[0]["lr"] = _rate(width) * max(0.02, 1 - share)
            best = lens._step(network, batch, random)
            weight.grad, bias.grad = torch.autograd.grad(best, [weight, bias])  # the network's weights get none
            torch.nn.utils.clip_grad_norm_([weight, bias], 1.0)
            optimizer.step()
            progress(min(share, 1.0), float(best.detach()))
        progress(1.0, float(best.detach()) if best is not None else 0.0)
        weight, bias = weight.detach(), bias.detach()
        trained = cls(weight, bias, network.config.vocab_size, (0.0, 0.0), _hash_of(model))
        trained.losses = (divergence(network, held_out, None), divergence(network, held_out, trained))
        return trained

    def _step(self, network: GPT, ids: Tensor, random: torch.Generator) -> Tensor:
        """The divergence over likely and random tokens, mean over layers and positions."""
        with torch.no_grad():
            *streams, last = residual_streams(network, ids.tolist())
            end = network.logits(network.norm(last)).float()  # [T, V]
            likely = end.topk(min(_LIKELY, end.shape[1]), dim=-1).indices.flatten()
            chance = torch.randint(0, end.shape[1], (_BY_CHANCE,), generator=random).to(likely)
            chosen = torch.cat((likely, chance)).unique()
            target = end[:, chosen].log_softmax(-1)
            head = network.embed.weight if network.head is None else network.head.weight
            rows = head[chosen].float()  # [N, C]
        stack = torch.stack(streams).float()  # [L, T, C]
        stack = stack + torch.baddbmm(self.bias[:, None], stack, self.weight.transpose(1, 2))
        own = network.norm(stack) @ rows.T
        if network.config.logit_softcap is not None:
            own = network.config.logit_softcap * torch.tanh(own / network.config.logit_softcap)
        own = own.log_softmax(-1)
        return (target.exp() * (target - own)).sum(-1).mean()

    def save(self, path: Path) -> None:
        """Write it as a safetensors file; raises GlassError where the disk refuses."""
        about = {"format": _FORMAT, "vocabulary": str(self.vocabulary), "before": repr(self.losses[0]),
                 "after": repr(self.losses[1]), "model": self.model_sha256}  # fmt: skip
        tensors = {"weight": self.weight.cpu().contiguous(), "bias": self.bias.cpu().contiguous()}
        write_whole(path, save_tensors(tensors, about))

    @classmethod
    def load(cls, path: Path) -> TunedLens:
        """Read what `save` wrote; raises FormatError."""
        try:
            with safe_open(path, "pt") as file:
                about = file.metadata() or {}
                weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
                if about.get("format") != _FORMAT or weight.dim() != 3 or weight.shape[:2] != bias.shape:
                    raise ValueError(about.get("format"))
                losses = float(about["before"]), float(about["after"])
                return cls(weight, bias, int(about["vocabulary"]), losses, about["model"])
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise FormatError("{path} is no tuned lens ({reason})", hint="Train one for this model.", path=path,
                              reason=str(error)) from None  # fmt: skip


def lens_file(model: LanguageModel) -> Path:
    """Where a model's own tuned lens lies: beside its files, in no reader's way. Raises ConfigError where those lie
    nowhere."""
    if model.path is None:
        raise ConfigError("{model} lies in no file, so no lens can lie beside it",
                          hint="Load a model that was saved, or use TunedLens.save and load.",
                          model=model.name)  # fmt: skip
    return model.path / _BESIDE if model.path.is_dir() else model.path.with_name(f"{model.path.name}.{_BESIDE}")


def own_lens(model: LanguageModel) -> TunedLens | None:
    """The tuned lens that lies beside a model, where one does; it stays in memory as long as the model.

    Raises:
        FormatError: it is damaged.
        ConfigError: the model's files have changed since it was trained.
    """
    if model.path is None or not (path := lens_file(model)).is_file():
        return None
    version = path.stat().st_mtime_ns
    if model not in _own or _own[model][0] != version:
        found = TunedLens.load(path)
        found.check(network_of(model))
        if found.model_sha256 != _hash_of(model):
            raise ConfigError("{path} was trained for other weights than lie beside it", hint="Train it again.",
                              path=path)  # fmt: skip
        _own[model] = version, found
    return _own[model][1]


def _hash_of(model: LanguageModel) -> str:
    return files_hash(model.path) if model.path is not None else ""


@torch.no_grad()
def divergence(network: GPT, windows: Sequence[Tensor], tuned: TunedLens | None) -> float:
    """How far the layers' readings are from the network's own distribution, mean over layers and positions, in bits."""
    sums = count = 0.0
    for ids in windows:
        *streams, last = residual_streams(network, ids.tolist())
        end = network.logits(network.norm(last)).float().log_softmax(-1)
        for layer, stream in enumerate(streams):
            own = lens_scores(network, stream, tuned, layer).float().log_softmax(-1)
            sums += float((end.exp() * (end - own)).sum(-1).mean())
            count += 1
    return sums / count / 0.6931471805599453


def _windows(model: LanguageModel, texts: Sequence[Prompt]) -> list[Tensor]:
    def encoded(text: Any) -> Sequence[int]:
        if isinstance(text, str) or not isinstance(text[0], dict):
            return model.encode(text)
        return model.template.encode(model.tokenizer, text).ids

    ids = [id for text in texts if text for id in encoded(text)]
    if len(ids) < _LEAST_TOKENS:
        raise InputError("the texts have {count} tokens; at least {least} are needed", count=len(ids),
                         least=_LEAST_TOKENS)  # fmt: skip
    size = min(_WINDOW, model.context_length)
    return [torch.tensor(ids[at : at + size]) for at in range(0, len(ids) - size + 1, size)]


def _forever(windows: Sequence[Tensor], random: torch.Generator) -> Iterator[Tensor]:
    while True:
        for place in torch.randperm(len(windows), generator=random).tolist():
            yield windows[place]


def _rate(width: int) -> float:
    return 0.3 / width
