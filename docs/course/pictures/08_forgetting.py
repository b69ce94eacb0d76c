"""The picture of chapter 8: what fine-tuning gains on the shop's answers, and what it loses on other text.

`python docs/course/pictures/08_forgetting.py` trains SmolLM2 three times, for some minutes, and prints the losses.
"""

from __future__ import annotations

from importlib.resources import files

import torch
from bilingual import BLUE, GREEN, RED, Words, plt, save
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

import glassgpt
from glassgpt.data.clean import clean_rows
from glassgpt.data.examples import Example, make_example
from glassgpt.data.sources import read_rows
from glassgpt.data.split import split
from glassgpt.data.which_language import language_of
from glassgpt.model.gpt import GPT
from glassgpt.model.lora import add_lora

STEPS, EVERY = 32, 4
WAYS = {"LoRA, 0.002": 0.002, "full, 0.0003": 0.0003, "full, 0.002": 0.002}
OTHER = (
    "The Moon is the only natural satellite of the Earth. It goes around the Earth in about a month, and the same "
    "side of it always faces us. The tides of the sea follow it. People first walked on it in 1969. Bread is made "
    "of flour, water, salt and yeast. The dough rests until it has risen, and is then baked in a hot oven until the "
    "crust is brown."
)


def loss_of(network: GPT, ids: list[int], learned: list[bool]) -> Tensor:
    """The mean loss of the tokens that are learned."""
    row, take = torch.tensor([ids]), torch.tensor([learned])[:, 1:]
    return F.cross_entropy(network(row[:, :-1])[take], row[:, 1:][take])


def main() -> None:
    rows, _ = clean_rows(read_rows(str(files("glassgpt") / "samples" / "shop.csv")))
    rows = [row for row in rows if language_of(row.texts[1]) == "en" and sum(map(len, row.texts)) < 190]
    sides = split(rows, 0.2, seed=0)
    curves: dict[str, list[tuple[float, float]]] = {}
    for name, rate in WAYS.items():
        model = glassgpt.load("smollm2", in_torch=True)
        network = model.network.requires_grad_(True)
        made = [[make_example(r, model.tokenizer, model.template, 256) for r in side] for side in sides]
        train, held_out = ([e for e in side if isinstance(e, Example)] for side in made)
        other = model.encode(OTHER)

        @torch.no_grad()
        def measure(network: GPT = network, held_out: list[Example] = held_out, other: list[int] = other,
                    name: str = name) -> None:  # fmt: skip
            shop = [float(loss_of(network, e.ids, e.loss_mask)) for e in held_out]
            curves[name].append((sum(shop) / len(shop), float(loss_of(network, other, [True] * len(other)))))
            print(f"{name:13} shop {curves[name][-1][0]:.2f}  other text {curves[name][-1][1]:.2f}", flush=True)

        if name.startswith("LoRA"):
            add_lora(network, rank=8, alpha=16)
        optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=rate)
        curves[name] = []
        measure()
        for step in range(STEPS):
            example = train[step % len(train)]
            loss_of(network, example.ids, example.loss_mask).backward()
            optimizer.step()
            optimizer.zero_grad()
            if (step + 1) % EVERY == 0:
                measure()

    def draw(words: Words) -> Figure:
        figure, both = plt.subplots(1, 2, figsize=(8, 3), sharex=True)
        titles = (words("held-out answers of the shop", "留出的商店回答"), words("other English text", "其他英文文本"))
        for side, (axes, title) in enumerate(zip(both, titles, strict=True)):
            for (name, curve), colour in zip(curves.items(), (GREEN, BLUE, RED), strict=True):
                label = name.replace("full", words("all weights", "全部权重"))
                axes.plot(range(0, STEPS + 1, EVERY), [point[side] for point in curve], color=colour, label=label)
            axes.set_title(title, fontsize=10)
            axes.set_xlabel(words("rows read", "读过的行数"))
        both[0].set_ylabel(words("loss, nats a token", "损失（nat/词元）"))
        both[0].legend(frameon=False, title=words("what is trained, at which rate", "训练什么，学习率"))
        return figure

    save("08-forgetting", draw)


if __name__ == "__main__":
    main()
