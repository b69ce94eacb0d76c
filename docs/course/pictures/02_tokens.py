"""The picture of chapter 2: characters per token of held-out shop texts, for tokenizers of several sizes and SmolLM2's.

`python docs/course/pictures/02_tokens.py`.
"""

from __future__ import annotations

from importlib.resources import files

from bilingual import BLUE, RED, Words, plt, save
from matplotlib.figure import Figure

import glassgpt
from glassgpt.data.sources import read_rows
from glassgpt.text.bpe import train_bpe
from glassgpt.text.tokenizer import Tokenizer
from glassgpt.text.usage import Usage

SIZES = (260, 300, 400, 600, 1000, 1500, 2000, 3000, 4000)


def main() -> None:
    texts = [text for row in read_rows(str(files("glassgpt") / "samples" / "shop.csv")) for text in row.texts]
    seen, held_out = texts[:900], texts[900:]

    def measure(tokenizer: Tokenizer) -> dict[str, float]:
        usage = Usage(tokenizer)
        for text in held_out:
            usage.add(text)
        return {script: usage.parts[script].characters_per_token for script in ("english", "chinese")}

    own = [measure(train_bpe(seen, size)) for size in SIZES]
    smollm2 = measure(glassgpt.load("smollm2").tokenizer)

    def draw(words: Words) -> Figure:
        figure, axes = plt.subplots(figsize=(6.6, 3.6))
        for script, name, colour in (
            ("english", words("English", "英文"), BLUE),
            ("chinese", words("Chinese", "中文"), RED),
        ):
            axes.semilogx(SIZES, [one[script] for one in own], "o-", color=colour, label=name)
            axes.axhline(smollm2[script], color=colour, linestyle=":")
            axes.text(
                1300, smollm2[script] + 0.07, words(f"SmolLM2, {name}", f"SmolLM2，{name}"), color=colour, fontsize=9
            )
        axes.set_xticks([300, 1000, 4000], ["300", "1,000", "4,000"])
        axes.minorticks_off()
        axes.set_xlabel(words("size of the vocabulary", "词表大小"))
        axes.set_ylabel(words("characters per token", "每个词元的字符数"))
        axes.set_ylim(0, 5.6)
        axes.legend(loc="upper left", bbox_to_anchor=(0.02, 0.78), frameon=False)
        return figure

    save("02-tokens", draw)


if __name__ == "__main__":
    main()
