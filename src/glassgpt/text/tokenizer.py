"""Text to ids and back, for every model that glassgpt reads.

A control token (`<|im_end|>`, `<eos>`, `<think>`...) is structure, not text. `encode` never produces one,
whatever the text says; `text.template` puts them where they belong, by id.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from glassgpt.core.errors import FormatError, InputError
from glassgpt.text import tokenizer_json as tj
from glassgpt.text.sentencepiece import CONTROL, NORMAL, UNKNOWN, USER_DEFINED, ScoredPieces
from glassgpt.text.short_texts import short_texts
from glassgpt.text.stream import StreamDecoder
from glassgpt.text.tokenizer_files import read_files, refusing_damage

_UNKNOWN_ID = "�".encode()


@dataclass(frozen=True)
class TokenizerLists:
    """A tokenizer as plain lists, the way a GGUF file holds it.

    `model` is "gpt2" (byte-level BPE with merges) or "llama" (SentencePiece BPE with scores); `pre` says how
    text is cut before merging. `types`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    """

    model: str
    pre: str
    tokens: list[str]
    scores: list[float] | None
    types: list[int] | None
    merges: list[str] | None
    bos_id: int | None
    eos_id: int | None
    unk_id: int | None
    pad_id: int | None
    add_bos: bool
    add_space_prefix: bool


class Tokenizer:
    """Text to ids and ids to text. Built with `from_lists` or `from_file`, or trained in `text.bpe`.

    Attributes:
        vocab_size: the largest id plus one.
        bos_id, eos_id: beginning and end of a sequence, where the tokenizer has them.
        add_bos: whether `encode` begins with `bos_id` unless told otherwise.
    """

    def __init__(
        self,
        spec: tj.Spec,
        *,
        bos_id: int | None = None,
        eos_id: int | None = None,
        add_bos: bool = False,
        scored: ScoredPieces | None = None,
        scores: list[float] | None = None,
        types: list[int] | None = None,
    ) -> None:
        """From the content of a tokenizer.json; the class methods are the doors to use."""
        self._spec, self._scored, self._scores, self._types = spec, scored, scores, types
        self.kind = tj.kind_of(spec)
        self._ids = tj.vocabulary(spec)
        self._control = tj.control_tokens(spec, self._ids)
        self._control_ids = frozenset(self._control.values())
        self.vocab_size = max(self._ids.values(), default=-1) + 1
        self._strips_after = {a["id"] for a in spec.get("added_tokens") or [] if a.get("rstrip")}
        self._added = {a["content"] for a in spec.get("added_tokens") or []}
        self._tokens = [""] * self.vocab_size
        for token, number in self._ids.items():
            self._tokens[number] = token
        self._pieces: list[bytes | None] = [None] * self.vocab_size  # filled in as they are asked for
        self._prefix_first, self._prefix_everywhere = tj.prefixes(spec)
        self._by_character = self.kind == "characters" and not any(
            [spec["model"].get("merges"), spec.get("normalizer"), spec.get("pre_tokenizer"), spec.get("added_tokens")]
        )
        plain = self.kind == "bytes" and not scored and not self._prefix_first
        self._short = short_texts(spec, self._control) if plain else None
        if not (scored or self._short):
            _ = self._engine  # what is wrong with the file is said now and not at the first text
        self.bos_id, self.eos_id = self._checked(bos_id), self._checked(eos_id)
        self.add_bos = add_bos and self.bos_id is not None

    # Where tokenizers come from

    @classmethod
    def from_lists(cls, lists: TokenizerLists) -> Tokenizer:
        """From the lists of a GGUF file.

        Raises:
            FormatError: an unknown model or pre-tokenizer, or lists that do not fit together.
        """
        types = lists.types or [NORMAL] * len(lists.tokens)
        if len(types) != len(lists.tokens) or (lists.scores and len(lists.scores) != len(types)):
            raise FormatError(
                "the tokenizer has {tokens} tokens, {types} types and {scores} scores",
                hint="The lists must be equally long; the file is damaged.",
                tokens=len(lists.tokens),
                types=len(types),
                scores=len(lists.scores or []),
            )
        if len(set(lists.tokens)) != len(types):
            twice = Counter(lists.tokens).most_common(1)[0][0]
            raise FormatError("the vocabulary holds {token} twice", hint="The file is damaged.", token=repr(twice)[:60])
        settings: dict[str, Any] = dict(bos_id=lists.bos_id, eos_id=lists.eos_id, add_bos=lists.add_bos)
        if lists.model == "llama" and lists.scores:
            return cls._from_scores(lists.tokens, lists.scores, types, lists.add_space_prefix, settings)
        if lists.model != "gpt2" or not lists.merges:
            raise FormatError(
                "the tokenizer is of the kind {kind}, with {merges} merges and {scores} scores",
                hint="The kinds that work are gpt2 (with merges) and llama (with scores).",
                kind=repr(lists.model)[:60],
                merges=len(lists.merges or []),
                scores=len(lists.scores or []),
            )
        if lists.pre not in tj.PRE_TOKENIZERS:
            raise FormatError(
                "the tokenizer cuts text in an unknown way: {pre}",
                hint="Known are {known}.",
                pre=repr(lists.pre)[:60],
                known=", ".join(tj.PRE_TOKENIZERS),
            )
        others = [i for i, t in enumerate(types) if t != NORMAL]
        spec = tj.spec_of_bytes(
            lists.tokens,
            lists.merges,
            pre_tokenizer={"type": "Sequence", "pretokenizers": tj.PRE_TOKENIZERS[lists.pre]},
            control=[i for i in others if types[i] in (UNKNOWN, CONTROL)],
            user_defined=[i for i in others if types[i] == USER_DEFINED],
            normalizer={"type": "NFC"} if lists.pre == "qwen2" else None,
            ignore_merges=lists.pre in ("llama-bpe", "llama3", "llama-v3"),
        )
        return cls(spec, **settings)

    @classmethod
    def _from_scores(
        cls, tokens: list[str], scores: list[float], types: list[int], prefix: bool, settings: dict[str, Any]
    ) -> Tokenizer:
        types = list(types)
        for i in [i for i, token in enumerate(tokens) if token in tj.STRUCTURAL]:
            types[i] = CONTROL
        scored = ScoredPieces(tokens, scores, types, add_space_prefix=prefix)
        spec = tj.spec_of_pieces(tokens, [], types, prefix=prefix)  # `save` fills in the merges
        return cls(spec, scored=scored, scores=scores, types=types, **settings)

    @classmethod
    def from_file(cls, path: str | Path) -> Tokenizer:
        """From a tokenizer.json or a folder that holds one. tokenizer_config.json, special_tokens_map.json
        and generation_config.json beside it are read for the beginning and end of a sequence.

        Raises:
            NotFoundError: there is no such file.
            FormatError: the file is damaged, or describes a kind of tokenizer that cannot be streamed.
        """
        files = read_files(Path(path))
        with refusing_damage(files.file):
            if files.scores and files.types:
                prefix, _ = tj.prefixes(files.spec)
                return cls._from_scores(files.tokens, files.scores, files.types, prefix, files.settings)
            return cls(files.spec, **files.settings)

    def save(self, folder: str | Path) -> None:
        """Writes tokenizer.json and tokenizer_config.json; `from_file(folder)` gives the same tokenizer.
        Other libraries read these files too."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        spec = self._spec
        model = spec["model"]
        if self._scored or model.get("merges"):
            merges = self._scored.merges() if self._scored else tj.pairs(model["merges"])
            spec = {**spec, "model": {**model, "merges": merges}}
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "add_bos_token": self.add_bos,
            "bos_token": None if self.bos_id is None else self._tokens[self.bos_id],
            "eos_token": None if self.eos_id is None else self._tokens[self.eos_id],
        }
        if self._scored:
            config["glassgpt_scores"], config["glassgpt_types"] = self._scores, self._types
        for name, content in (("tokenizer.json", spec), ("tokenizer_config.json", config)):
            (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    def same_tokens(self, other: Tokenizer) -> bool:
        """Whether both have the same ids for the same tokens."""
        return self._ids == other._ids

    # Text to ids

    def encode(self, text: str, *, add_bos: bool | None = None) -> list[int]:
        """The ids of plain text. The name of a control token in it is text like any other.

        Args:
            text: any text; "" gives no ids (or `bos_id` alone).
            add_bos: whether to begin with `bos_id`; None does what the model wants (`self.add_bos`).

        Raises:
            InputError: a character that this tokenizer cannot express (it names the character and its place).
        """
        wanted = self.add_bos if add_bos is None else add_bos
        return ([self.bos_id] if wanted and self.bos_id is not None else []) + self.encode_segment(text)

    def encode_segment(self, text: str, *, after: Literal["start", "control", "text"] = "start") -> list[int]:
        """Like `encode`, without `bos_id`, for a piece of a longer sequence: `after` says what stands before it.
        It matters to tokenizers that put a space before a text."""
        prefix = after == "start" or (after == "control" and self._prefix_everywhere)
        if (position := self._cannot_encode(text)) is not None:
            raise InputError(
                "this tokenizer cannot express the character {character} at position {position}",
                hint="Remove or replace that character.",
                character=repr(text[position]),
                position=position,
            )
        if self._scored:
            return self._scored.encode(text, prefix=prefix)
        if self._by_character:  # a look-up each; the engine, its plain twin, takes fifty times as long
            return [self._ids[character] for character in text]
        if self._short and (ids := self._short.encode(text)) is not None:
            return ids
        self._short = None  # the engine it is from now on
        engine = self._engine if prefix or not self._prefix_first else self._without_prefix
        # The batch's way lets other threads run meanwhile, which `encode` does not: a server goes on answering.
        return engine.encode_batch_fast([text], add_special_tokens=False)[0].ids

    def warm_up(self) -> None:
        """Makes now what the first long text would otherwise wait for; from any thread."""
        if not self._scored and not self._by_character:
            _ = self._engine
            _ = self._without_prefix if self._prefix_first else None

    def encode_with_control(self, text: str) -> list[int]:
        """The ids of a text of our own, in which the names of control tokens are those tokens. Adds no
        `bos_id`. Never for what a user typed."""
        ids: list[int] = []
        after: Literal["start", "control", "text"] = "start"
        for i, part in enumerate(self._control_pattern.split(text) if self._control else [text]):
            if i % 2:
                ids.append(self._control[part.strip()] if part not in self._control else self._control[part])
                after = "control"
            elif part:
                ids.extend(self.encode_segment(part, after=after))
        return ids

    def strips_after(self, token_id: int) -> bool:
        """Whether this control token swallows the white space that follows it (Phi 3 has such tokens)."""
        return token_id in self._strips_after

    def token_id(self, token: str) -> int | None:
        """The id of exactly this vocabulary entry, or None."""
        return self._ids.get(token)

    # Ids to text

    def is_control(self, token_id: int) -> bool:
        """Whether this id is structure and not text."""
        return token_id in self._control_ids

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes that this id stands for in a text: none for a control token, those of U+FFFD for an id
        beyond the vocabulary (models may have more rows than their tokenizer has entries)."""
        if token_id < 0:
            raise InputError(
                "{id} is not a token id",
                hint="Ids run from 0 to {largest}.",
                id=token_id,
                largest=self.vocab_size - 1,
            )
        if token_id >= self.vocab_size:
            return _UNKNOWN_ID
        if (piece := self._pieces[token_id]) is None:
            piece = self._pieces[token_id] = self._piece(token_id)
        return piece

    def _piece(self, token_id: int) -> bytes:
        token = self._tokens[token_id]
        return b"" if token_id in self._control_ids else tj.token_piece(token, self.kind, added=token in self._added)

    def decode(self, ids: Iterable[int], *, show_control: bool = False) -> str:
        """The text of `ids`: their bytes joined, with U+FFFD for what is not UTF-8. A SentencePiece model
        that puts a space before a text shows that space. `show_control` writes control tokens by name."""
        if show_control:
            return b"".join(
                self._tokens[i].encode() if i in self._control_ids else self.token_bytes(i) for i in ids
            ).decode("utf-8", "replace")
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def stream_decoder(self) -> StreamDecoder:
        """A decoder for ids that arrive one at a time."""
        return StreamDecoder(self.token_bytes)

    def fingerprint(self) -> str:
        """SHA-256 (hex) over all that decides what `encode` and `decode` give."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        import hashlib

        model = self._spec["model"]
        merges = [self._scores, self._types] if self._scored else tj.pairs(model.get("merges") or [])
        flags = [bool(model.get(f)) for f in ("byte_fallback", "ignore_merges")]
        plain = [a for a in self._spec.get("added_tokens") or [] if a["content"] not in self._control]
        cut = [self._spec.get("normalizer"), self._spec.get("pre_tokenizer")]
        settings = [self.kind, self.bos_id, self.eos_id, self.add_bos]
        content = [self._ids, self._control, merges, flags, plain, cut, settings]
        text = json.dumps(content, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    # Parts

    @cached_property
    def _engine(self) -> Any:
        return tj.build(tj.plain_spec(self._spec, self._ids, self._control, prefix=True))

    @cached_property
    def _without_prefix(self) -> Any:
        return tj.build(tj.plain_spec(self._spec, self._ids, self._control, prefix=False))

    @cached_property
    def _control_pattern(self) -> re.Pattern[str]:
        flags = {a["content"]: a for a in self._spec.get("added_tokens") or []}
        names = []
        for token in sorted(self._control, key=len, reverse=True):
            left = r"\s*" if flags.get(token, {}).get("lstrip") else ""
            right = r"\s*" if flags.get(token, {}).get("rstrip") else ""
            names.append(left + re.escape(token) + right)
        return re.compile("(" + "|".join(names) + ")")

    @cached_property
    def _missing_bytes(self) -> bytes:
        """The bytes that byte-level tokens of one byte cannot spell (SmolLM2 lacks some that are rare)."""
        single = {self._piece(i) for i, token in enumerate(self._tokens) if len(token) == 1}
        return bytes(b for b in range(256) if bytes([b]) not in single)

    @cached_property
    def _missing_table(self) -> bytes:
        return bytes(b for b in range(256) if b not in self._missing_bytes)

    def _cannot_encode(self, text: str) -> int | None:
        """The position of the first character that has no ids. Without this the library drops it unseen."""
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:  # half of a surrogate pair
            return error.start
        if self._scored:
            return self._scored.cannot_encode(text)
        if self.kind == "bytes":
            if not raw.translate(None, self._missing_table):
                return None
            return next(i for i, c in enumerate(text) if set(c.encode()) & set(self._missing_bytes))
        if self.kind == "characters":
            if set(text) <= self._ids.keys():
                return None
            return next((i for i, c in enumerate(text) if c not in self._ids), None)
        return self._cannot_encode_pieces(text)

    def _cannot_encode_pieces(self, text: str) -> int | None:
        if self._spec["model"].get("byte_fallback") and all(f"<0x{b:02X}>" in self._ids for b in range(256)):
            return None
        return next((i for i, c in enumerate(text) if c not in self._ids and c != " "), None)

    def _checked(self, number: int | None) -> int | None:
        if number is not None and not 0 <= number < self.vocab_size:
            raise FormatError(
                "the end or beginning of a sequence is token {id}, which is not in the vocabulary",
                hint="Ids run from 0 to {largest}; the file is damaged.",
                id=number,
                largest=self.vocab_size - 1,
            )
        return number
