"""Training a tokenizer on your own text: byte-level BPE, or one id for each character.

Byte-level BPE: Sennrich et al. 2016 on bytes, as in GPT-2 (Radford et al. 2019, section 2.2). Any text can be
encoded. Before merging, text is cut as GPT-2 does, with two changes: Chinese characters never share a token
with letters of another script, and digits stand alone, so that numbers are read digit by digit.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.text import tokenizer_json as tj
from glassgpt.text.tokenizer import Tokenizer

_CUT = r"'(?:[sdmt]|ll|ve|re)|\p{Han}+| ?[\p{L}\p{M}&&[^\p{Han}]]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
_SURROGATE = re.compile("[\ud800-\udfff]")
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def train_bpe(texts: Iterable[str], vocab_size: int, control: Sequence[str] = CONTROL) -> Tokenizer:
    """Learns a byte-level BPE tokenizer.

    Args:
        texts: the training texts, read once, one at a time.
        vocab_size: how many ids to end with: the control tokens, 256 bytes, and merges. A text too small to
            teach that many merges gives fewer; `Tokenizer.vocab_size` tells.
        control: control tokens, ids 0, 1, 2...; the first ends a sequence (`eos_id`, and `bos_id`).

    Raises:
        ConfigError: `vocab_size` leaves no room for the bytes and control tokens, or a control token is
            empty or listed twice.
        InputError: there is no text.
    """
    smallest = 256 + len(control)
    if vocab_size < smallest or vocab_size > tj.MAX_VOCABULARY:
        raise ConfigError(
            "vocab_size is {given}; it must be from {smallest} to {largest}",
            hint="The bytes take 256 ids and the control tokens {control}; what is above becomes merges.",
            given=vocab_size,
            smallest=smallest,
            largest=tj.MAX_VOCABULARY,
            control=len(control),
        )
    if len(set(control)) != len(control) or "" in control:
        raise ConfigError(
            "the control tokens {control} hold an empty name or one name twice",
            hint="Give each control token a name of its own.",
            control=", ".join(map(repr, control)),
        )
    engine = tokenizers.Tokenizer(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(_CUT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(control),
        initial_alphabet=sorted(tj.bytes_of_characters()),
        show_progress=False,
    )
    engine.train_from_iterator(_some(texts), trainer)
    end = 0 if control else None
    return Tokenizer(json.loads(engine.to_str()), bos_id=end, eos_id=end)


def train_characters(texts: Iterable[str]) -> Tokenizer:
    """A tokenizer with one id for each character that occurs, in the order of their code points. It has no
    control tokens; encoding a character that did not occur is an InputError.

    Raises:
        InputError: there is no text.
    """
    characters: set[str] = set()
    for text in _some(texts):
        characters.update(text)
    return Tokenizer(tj.spec_of_characters(sorted(characters)))


def _some(texts: Iterable[str]) -> Iterator[str]:
    """The texts that hold anything; an error when none does."""
    empty = True
    for i, text in enumerate(texts):
        if _SURROGATE.search(text):
            raise InputError(
                "text {place} holds half of a character (a lone surrogate)",
                hint="Read the file as UTF-8.",
                place=i + 1,
            )
        empty = empty and not text
        if text:
            yield text
    if empty:
        raise InputError("there is no text to train a tokenizer on", hint="Give at least one text.")
