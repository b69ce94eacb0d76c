"""The tokenizer.json format: what kind a tokenizer is, what its tokens spell, and how it is run on plain text.

The `tokenizers` library does the encoding. What is handed to it has no control tokens at all, neither as added
tokens nor in the vocabulary, so that no text whatever can produce one.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import tokenizers

from glassgpt.core.errors import FormatError
from glassgpt.text.sentencepiece import SPACE, byte_of

MAX_VOCABULARY = 1 << 22  # sixteen times Gemma's; keeps a damaged id from asking for all memory
Spec = dict[str, Any]

# Tokens that carry the structure of a conversation: control tokens even where a file does not say so.
STRUCTURAL = frozenset(
    [
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "<tool_response>",
        "</tool_response>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<|im_start|>",
        "<|im_end|>",
        "<|im_sep|>",
        "<|endoftext|>",
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|end|>",
    ]
)

_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_BYTE_LEVEL: Spec = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def _split_by(pattern: str) -> list[Spec]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return [split, {**_BYTE_LEVEL, "use_regex": False}]


_SINGLE_DIGITS = [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL]
_LLAMA3 = _split_by(_LETTERS + r"|\p{N}{1,3}" + _REST)
# GGUF's tokenizer.ggml.pre: how text is cut before bytes are merged.
PRE_TOKENIZERS: dict[str, list[Spec]] = {
    "default": [_BYTE_LEVEL],
    "gpt-2": [_BYTE_LEVEL],
    "smollm": _SINGLE_DIGITS,
    "starcoder": _SINGLE_DIGITS,
    "qwen2": _split_by(_LETTERS + r"|\p{N}" + _REST),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
}


def bytes_of_characters() -> dict[str, int]:
    """GPT-2's printable stand-ins: which byte each character of a byte-level vocabulary entry means."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in set(printable)]
    return {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}


_BYTES = bytes_of_characters()


def token_piece(token: str, kind: str, *, added: bool) -> bytes:
    """The bytes that a vocabulary entry stands for in a text."""
    if kind == "sentencepiece":
        byte = None if added else byte_of(token)
        return bytes([byte]) if byte is not None else token.replace(SPACE, " ").encode("utf-8", "replace")
    if kind == "bytes" and not added and all(c in _BYTES for c in token):
        return bytes(_BYTES[c] for c in token)
    return token.encode("utf-8", "replace")


def spec_of_bytes(
    tokens: list[str],
    merges: Sequence[Sequence[str]],
    *,
    pre_tokenizer: Spec,
    control: list[int],
    user_defined: list[int],
    normalizer: Spec | None = None,
    ignore_merges: bool = False,
) -> Spec:
    """A tokenizer.json for byte-level BPE."""
    special = set(control)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(i, tokens[i], i in special) for i in sorted({*special, *user_defined})],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": _BYTE_LEVEL,
        "model": _bpe(_numbered(tokens), merges, ignore_merges=ignore_merges),
    }


def spec_of_pieces(tokens: list[str], merges: Sequence[Sequence[str]], types: list[int], *, prefix: bool) -> Spec:
    """A tokenizer.json for SentencePiece's BPE, for the libraries that read that format."""
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(i, tokens[i], t != 4) for i, t in enumerate(types) if t in (2, 3, 4)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [*([{"type": "Prepend", "prepend": SPACE}] if prefix else []), replace],
        },
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": _bpe(_numbered(tokens), merges, byte_fallback=True),
    }


def spec_of_characters(characters: list[str]) -> Spec:
    """A tokenizer.json with one id for each character: BPE that merges nothing."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": _bpe(_numbered(characters), []),
    }


def kind_of(spec: Spec) -> str:
    """ "bytes", "sentencepiece" or "characters".

    Raises:
        FormatError: the file describes another kind of tokenizer.
    """
    model = spec.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict | list):
        raise FormatError(
            "the tokenizer.json holds no model with a vocabulary",
            hint="Take the file from the model's own folder again; it may be cut off.",
        )
    name = model.get("type") or ("BPE" if "merges" in model else "WordPiece")
    decoders, cutters = set(_types(spec.get("decoder"))), set(_types(spec.get("pre_tokenizer")))
    if name == "BPE" and not model.get("end_of_word_suffix") and not model.get("continuing_subword_prefix"):
        if "ByteLevel" in decoders | cutters:
            return "bytes"
        if "Metaspace" in decoders | cutters or "ByteFallback" in decoders or model.get("byte_fallback"):
            return "sentencepiece"
        if decoders <= {"Fuse"} and not cutters:
            return "characters"
        name = "BPE + " + " + ".join(sorted(decoders | cutters))
    raise FormatError(
        "this is a {kind} tokenizer, whose text cannot be streamed back byte by byte",
        hint="Byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM), SentencePiece BPE (Llama 2, Gemma) and our own "
        "character tokenizers work.",
        kind=name,
    )


def vocabulary(spec: Spec) -> dict[str, int]:
    """Every entry with its id: the model's and the added ones."""
    ids = {**spec["model"]["vocab"], **{a["content"]: a["id"] for a in spec.get("added_tokens") or []}}
    # All at once, which is a tenth of the time; where something is wrong, one by one for its name.
    numbers = ids.values()
    plain = set(map(type, ids)) <= {str} and set(map(type, numbers)) <= {int}
    if plain and min(numbers, default=0) >= 0 and max(numbers, default=0) < MAX_VOCABULARY:
        return ids
    for token, number in ids.items():
        if type(token) is not str or type(number) is not int or not 0 <= number < MAX_VOCABULARY:
            raise FormatError(
                "the vocabulary gives {token} the id {id}",
                hint="Ids are whole numbers from 0 to {largest}; the file is damaged.",
                token=repr(token)[:60],
                id=repr(number)[:60],
                largest=MAX_VOCABULARY - 1,
            )
    return ids


def control_tokens(spec: Spec, ids: dict[str, int]) -> dict[str, int]:
    """The tokens that no text may turn into."""
    special = {a["content"]: a["id"] for a in spec.get("added_tokens") or [] if a.get("special")}
    return special | {token: ids[token] for token in STRUCTURAL if token in ids}


def plain_spec(spec: Spec, ids: dict[str, int], control: dict[str, int], *, prefix: bool) -> Spec:
    """The part of `spec` that turns plain text into ids: no control token, nothing added before or after.
    With `prefix=False` also without the space that some tokenizers put before a text."""
    plain = {k: copy.deepcopy(v) for k, v in spec.items() if k not in ("model", "added_tokens")}
    plain |= {"post_processor": None, "truncation": None, "padding": None}
    added = [a for a in spec.get("added_tokens") or [] if a["content"] not in control]
    # In the vocabulary too: the library numbers added tokens anew when it does not find them there.
    words = {**spec["model"]["vocab"], **{a["content"]: a["id"] for a in added}}
    for token in control:
        words.pop(token, None)
    merges = pairs(spec["model"].get("merges") or [])
    names = set(control)
    if not (names.isdisjoint(chain.from_iterable(merges)) and names.isdisjoint(map("".join, merges))):
        merges = [(a, b) for a, b in merges if not (a in names or b in names or a + b in names)]
    plain["added_tokens"] = [{**a, "special": False} for a in added]
    plain["model"] = {**spec["model"], "vocab": words, "merges": merges, "unk_token": None, "dropout": None}
    if not prefix:
        for part in ("normalizer", "pre_tokenizer"):
            plain[part] = _without_prefix(plain.get(part))
    return plain


def prefixes(spec: Spec) -> tuple[bool, bool]:
    """Whether a space is put before a text, and whether also before what follows a control token."""
    parts = [*_nodes(spec.get("normalizer")), *_nodes(spec.get("pre_tokenizer"))]
    first = everywhere = False
    for part in parts:
        scheme = part.get("prepend_scheme") or ("always" if part.get("add_prefix_space") else "never")
        always = part.get("type") == "Prepend" or (part.get("type") != "Metaspace" and scheme == "always")
        always = always or (part.get("type") == "Metaspace" and scheme == "always")
        first = first or always or (part.get("type") == "Metaspace" and scheme == "first")
        everywhere = everywhere or always
    return first, everywhere


_BPE_SETTINGS = (
    *("vocab", "merges", "continuing_subword_prefix", "end_of_word_suffix"),
    *("fuse_unk", "byte_fallback", "ignore_merges"),
)


def build(plain: Spec) -> tokenizers.Tokenizer:
    """The library's tokenizer for a plain spec.

    Raises:
        FormatError: the library refuses it, with its reason.
    """
    # One text at a time, in the thread that asks: no threads of the library's own, which a fork would lose.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    rest, added = {**plain, "model": _bpe({}, []), "added_tokens": []}, plain["added_tokens"]
    model = {k: plain["model"][k] for k in _BPE_SETTINGS if plain["model"].get(k) is not None}
    try:
        # The vocabulary and the merges as they are: written as JSON and read again they take four times as long.
        engine = tokenizers.Tokenizer.from_str(json.dumps(rest, ensure_ascii=False))
        engine.model = tokenizers.models.BPE(**model)
        engine.add_tokens([tokenizers.AddedToken(**{k: v for k, v in one.items() if k != "id"}) for one in added])
        return engine
    except Exception as error:  # the library raises bare Exception
        raise FormatError(
            "the tokenizer cannot be built: {reason}",
            hint="The file is damaged, or from a newer version of the `tokenizers` library.",
            reason=str(error)[:200],
        ) from error


def pairs(merges: list[Any]) -> list[tuple[str, str]]:
    """Merges as pairs, from either way of writing them ("a b", or ["a", "b"])."""
    if set(map(type, merges)) <= {tuple}:
        return merges  # they come from here
    strings = set(map(type, merges)) <= {str}
    result: list[Any] = [tuple(m.split(" ")) if strings or isinstance(m, str) else tuple(m) for m in merges]
    if set(map(len, result)) - {2} or not (strings or set(map(type, chain.from_iterable(result))) <= {str}):
        wrong = next(m for m in result if len(m) != 2 or not all(isinstance(p, str) for p in m))
        raise FormatError(
            "the merge {merge} is not a pair",
            hint="Each merge names two vocabulary entries with one space between; the file is damaged.",
            merge=repr(list(wrong))[:60],
        )
    return result


def _added(number: int, token: str, special: bool) -> Spec:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": number, "content": token, **flags, "special": special}


def _numbered(tokens: list[str]) -> dict[str, int]:
    return dict(zip(tokens, range(len(tokens)), strict=True))


def _bpe(vocab: dict[str, int], merges: Sequence[Sequence[str]], **settings: bool) -> Spec:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": merges,
    } | settings


def _nodes(part: Any) -> Iterator[Spec]:
    """A normalizer, pre-tokenizer or decoder and all that it is made of."""
    if isinstance(part, dict):
        yield part
        for key in ("normalizers", "pretokenizers", "decoders"):
            for child in part.get(key) or []:
                yield from _nodes(child)


def _types(part: Any) -> list[str]:
    return [str(n.get("type")) for n in _nodes(part) if n.get("type") != "Sequence"]


def _without_prefix(part: Any) -> Any:
    for node in _nodes(part):
        for key in ("normalizers", "pretokenizers"):
            if key in node:
                node[key] = [n for n in node[key] if n.get("type") != "Prepend"]
        if node.get("type") in ("Metaspace", "ByteLevel"):
            node["add_prefix_space"] = False
        if node.get("type") == "Metaspace":
            node["prepend_scheme"] = "never"
    return None if isinstance(part, dict) and part.get("type") == "Prepend" else part
