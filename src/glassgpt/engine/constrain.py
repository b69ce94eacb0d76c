"""Output that must match a JSON schema, a regular expression or a list of choices.

Before each token is chosen, a grammar says which of them may come next; the others get no probability. So the text
matches by construction, however small the model. The grammars are llguidance's (an Earley parser over derivatives of
regular expressions, walked along a trie of the vocabulary); what it would get wrong, `json_schema` refuses.

JSON comes out compact: no white space outside strings, properties in the order of the schema. Strings and numbers that
the schema does not bound can still run until the limit of tokens, and the text then is the beginning of a match.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.core.words import Sentence
from glassgpt.engine.json_schema import as_text, compilable, literals
from glassgpt.engine.patterns import check_pattern
from glassgpt.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

MAX_CHOICES = 1_000
MAX_CHOICE_TEXT = 50_000  # characters of all choices together
KEPT_GRAMMARS = 32
# A schema's own "x-guidance" could ask for leniency; what stands here has the last word. Without \u and \/ each name
# of a property has one spelling, so that none escapes its schema by another.
_JSON_OPTIONS: Any = {
    "whitespace_flexible": False,
    "whitespace_pattern": None,
    "item_separator": ",",
    "key_separator": ":",
    "coerce_one_of": False,
    "lenient": False,
    "json_allowed_escapes": 'nrbtf\\"',
    "json_allow_general_unicode_escapes": False,
}
_ANY: dict[str, Any] = {"$ref": "#/$defs/any"}
_OBJECT = {"type": "object", "additionalProperties": _ANY}
# Any object, with numbers that fit a float: the compiler's own notion of any value has exponents of any length.
ANY_OBJECT: dict[str, Any] = {
    **_OBJECT,
    "$defs": {
        "any": {"anyOf": [{"type": ["null", "boolean", "number", "string"]}, _OBJECT, {"items": _ANY, "type": "array"}]}
    },
}
_JSON_CHARACTERS = '{}[]":,-.0123456789truefalsn\\'


@dataclass(frozen=True)
class OutputFormat:
    """What the text must match; exactly one field is given.

    - `json_schema`: the text is one JSON value of this schema (draft 2020-12; see `json_schema.compilable`).
    - `json_object`: the text is any JSON object.
    - `regex`: the whole text matches, as in `re.fullmatch(regex, text, re.ASCII)`.
    - `choices`: the text is one of these.

    Raises:
        ConfigError: none or several are given, a limit is passed, or a part of it is not supported.
    """

    json_schema: dict[str, Any] | bool | None = None
    json_object: bool = False
    regex: str | None = None
    choices: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        given = [self.json_schema is not None, self.json_object, self.regex is not None, self.choices is not None]
        if sum(map(bool, given)) != 1:
            raise ConfigError(
                "{count} output formats are given; expected one of json_schema, json_object, regex and choices",
                count=sum(map(bool, given)),
            )
        if self.json_schema is not None:
            compilable(self.json_schema)
        elif self.regex is not None:
            check_pattern(self.regex)
        elif self.choices is not None:
            self._check_choices(self.choices)

    def _check_choices(self, choices: tuple[str, ...]) -> None:
        if not isinstance(choices, tuple) or not all(isinstance(c, str) and c and _is_unicode(c) for c in choices):
            raise ConfigError(
                "the choices are {value}; expected a tuple of texts, none of them empty", value=repr(choices)[:60]
            )
        if not 0 < len(choices) <= MAX_CHOICES or sum(map(len, choices)) > MAX_CHOICE_TEXT:
            raise ConfigError(
                "{count} choices of {characters} characters are given; from 1 to {most} choices of at most {limit}"
                " characters together are allowed",
                count=len(choices),
                characters=sum(map(len, choices)),
                most=MAX_CHOICES,
                limit=MAX_CHOICE_TEXT,
            )

    @property
    def schema(self) -> dict[str, Any] | bool | None:
        """The JSON schema that is meant, for `json_object` too."""
        return ANY_OBJECT if self.json_object else self.json_schema

    def key(self) -> str:
        """Equal texts mean equal formats, for a cache."""
        return as_text([self.schema, self.regex, self.choices])


class Grammars:
    """The grammars of one model. Safe to use from several threads; a `Constraint` belongs to one.

    Args:
        tokenizer: the model's.
        vocab_size: the network's vocabulary size V. Ids beyond the tokenizer's are never allowed.
        end_ids: the ids that end a text; they are allowed where the text may end, and nowhere else.

    Raises:
        ConfigError: there is no end id, or one that is outside the vocabulary.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, end_ids: Iterable[int]) -> None:
        self.tokenizer, self.vocab_size, self.end_ids = tokenizer, vocab_size, tuple(sorted(set(end_ids)))
        if not self.end_ids or not 0 <= self.end_ids[0] <= self.end_ids[-1] < vocab_size:
            raise ConfigError(
                "the ids that end a text are {ids}; expected one or more from 0 to {largest}",
                ids=list(self.end_ids),
                largest=vocab_size - 1,
            )
        self._kept: OrderedDict[str, Constraint] = OrderedDict()
        self._lock = Lock()

    def constraint(self, format: OutputFormat) -> Constraint:
        """A new constraint at the beginning of its text. The grammars used last are kept compiled.

        Raises:
            ConfigError: the format cannot be held to: it is invalid, has no match, grows too large, or needs
                characters that the tokenizer lacks.
        """
        key = format.key()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = self._compiled(format)
                while len(self._kept) > KEPT_GRAMMARS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key].copy()

    @cached_property
    def vocabulary(self) -> _Vocabulary:
        """The tokenizer as llguidance wants it, made at the first use: seconds for a vocabulary of 262,144."""
        return _Vocabulary(self.tokenizer, self.vocab_size, self.end_ids)

    def _compiled(self, format: OutputFormat) -> Constraint:
        from llguidance import LLMatcher, regex_to_lark

        if format.schema is not None:
            schema = compilable(format.schema)
            self._check_characters([_JSON_CHARACTERS, *literals(schema)])
            for number in _multiples(schema):  # alone, as the compiler does not notice that none is in range
                self._start(_json_grammar(number), number)
            return self._start(_json_grammar(schema), format.schema)
        if format.choices is not None:
            self._check_characters(format.choices)
            return self._start(LLMatcher.grammar_from_regex("|".join(map(_literal, format.choices))), format.choices)
        pattern = str(format.regex)
        # With "dws" the classes \d, \w and \s are ASCII, as in JavaScript and with Python's re.ASCII.
        return self._start(LLMatcher.grammar_from_lark(f"start: /(?:{regex_to_lark(pattern, 'dws')})/"), pattern)

    def _start(self, grammar: str, given: object) -> Constraint:
        """A constraint whose first tokens are known."""
        from llguidance import LLMatcher

        matcher = LLMatcher(self.vocabulary.engine, grammar, log_level=0, limits=_limits())
        if matcher.is_error():
            raise _unusable(given, matcher.get_error())
        constraint = Constraint(matcher, self.vocabulary)
        try:
            constraint.allowed()
        except ConfigError as error:
            raise _unusable(given, "no text") from error
        return constraint

    def _check_characters(self, texts: Sequence[str]) -> None:
        for text in texts:
            try:
                self.tokenizer.encode_segment(text, after="text")
            except InputError as error:
                raise ConfigError(
                    "the output format needs what this tokenizer cannot write: {why}",
                    hint="Take a model with a byte-level tokenizer, or another format.",
                    why=error.sentence(),
                ) from error


class Constraint:
    """Where in its grammar one text has come to."""

    def __init__(self, matcher: LLMatcher, vocabulary: _Vocabulary) -> None:
        self._matcher, self._vocabulary = matcher, vocabulary
        self._count, self._ended = 0, False
        self._bits: np.ndarray | None = None  # packed, as long as the state stays the same

    def allowed(self) -> np.ndarray:
        """Which tokens may come next: [V] bool, with at least one True.

        Raises:
            ConfigError: none may (the tokenizer lacks a character that is needed), or the grammar has grown
                beyond its limits.
        """
        return np.unpackbits(self._packed(), bitorder="little", count=self._vocabulary.size).view(bool)

    def accept(self, token: int) -> None:
        """Goes on by one token.

        Raises:
            InputError: the token is not allowed here; the state stays as it was.
        """
        if token in self._vocabulary.ends:
            fits = not self._ended and self._matcher.is_accepting()
            self._ended = self._ended or fits
        else:
            fits = not self._ended and self._vocabulary.is_text(token)
            fits = fits and self._matcher.try_consume_tokens([token]) == 1
        if self._matcher.is_error():
            raise _stuck(self._matcher.get_error())
        if not fits:
            raise InputError("token {id} does not fit the output format here", id=token)
        self._count, self._bits = self._count + 1, None

    @property
    def finished(self) -> bool:
        """Whether nothing but an end can follow."""
        return self._ended or not (self._packed() & self._vocabulary.text_bits).any()

    def forced(self) -> list[int]:
        """The tokens that must come next, as far as the grammar leaves no choice; empty where it does, or at the
        end. The text is certain, its division into tokens is the tokenizer's usual one: a draft to be verified."""
        if self._ended or self._matcher.is_stopped():
            return []
        tokens = self._matcher.compute_ff_tokens()
        return tokens[: self._matcher.validate_tokens(tokens)] if tokens else []

    def rollback(self, count: int) -> None:
        """Takes the last `count` tokens back.

        Raises:
            InputError: fewer have been accepted.
        """
        if not 0 <= count <= self._count:
            raise InputError(
                "{count} tokens cannot be taken back; {accepted} were accepted", count=count, accepted=self._count
            )
        if count:
            of_text = count - self._ended
            if of_text and not self._matcher.rollback(of_text):
                raise _stuck(self._matcher.get_error())
            self._ended, self._bits, self._count = False, None, self._count - count

    def copy(self) -> Constraint:
        """One that goes on from here by itself."""
        other = Constraint(self._matcher.deep_copy(), self._vocabulary)
        other._count, other._ended, other._bits = self._count, self._ended, self._bits
        return other

    def _packed(self) -> np.ndarray:
        """`allowed` as bits, the lowest first: [ceil(V / 32) * 4] uint8."""
        if self._bits is None:
            words = self._vocabulary
            if self._ended:
                self._bits = words.end_bits
                return self._bits
            bits = np.zeros_like(words.text_bits)
            if not self._matcher.is_stopped():
                self._matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
                bits &= words.text_bits
            if self._matcher.is_error():
                raise _stuck(self._matcher.get_error())
            # At a dead end the library allows an end too; only an accepting state may have one.
            if self._matcher.is_accepting():
                bits |= words.end_bits
            if not bits.any():
                raise _stuck(Sentence("no token fits"))
            self._bits = bits
        return self._bits


class _Vocabulary:
    """The tokens of a model, for llguidance, and which of them are text or an end."""

    def __init__(self, tokenizer: Tokenizer, size: int, ends: Sequence[int]) -> None:
        self._tokenizer, self.size, self.ends = tokenizer, size, frozenset(ends)
        known = range(min(size, tokenizer.vocab_size))
        pieces = [b"" if tokenizer.is_control(i) else tokenizer.token_bytes(i) for i in known]
        pieces += [b""] * (size - len(pieces))
        self._is_text = np.array([bool(p) and i not in self.ends for i, p in enumerate(pieces)])
        self.text_bits, self.end_bits = _bits(self._is_text), _bits(np.isin(np.arange(size), ends))
        self._ids = {piece: i for i, piece in reversed(list(enumerate(pieces))) if self._is_text[i]}
        self._longest = max(map(len, self._ids), default=0)
        self.engine = self._engine(pieces)

    def is_text(self, token: int) -> bool:
        """Whether this token stands for bytes of a text."""
        return 0 <= token < self.size and bool(self._is_text[token])

    def _engine(self, pieces: list[bytes]) -> LLTokenizer:
        from llguidance import LLTokenizer, TokenizerWrapper

        ends = sorted(self.ends)
        other = np.flatnonzero(~self._is_text).tolist()
        for i in other:
            pieces[i] = f"<|{i}|>".encode()
        wanted = _Wanted(ends[0], None, pieces, other, self._tokens)
        return LLTokenizer(TokenizerWrapper(wanted), n_vocab=self.size, eos_token=ends)

    def _tokens(self, text: str) -> list[int]:
        """How the model would write a text that is forced: the tokenizer's ids, where they spell it exactly."""
        try:
            ids = self._tokenizer.encode_segment(text, after="text")
        except InputError:
            ids = []
        data = text.encode()
        if b"".join(map(self._tokenizer.token_bytes, ids)) == data and all(map(self.is_text, ids)):
            return ids
        ids, start = [], 0  # it normalizes the text, or lacks a character: the longest tokens, as far as they reach
        while start < len(data):
            ends = range(min(len(data), start + self._longest), start, -1)
            if (end := next((e for e in ends if data[start:e] in self._ids), None)) is None:
                break
            ids.append(self._ids[data[start:end]])
            start = end
        return ids


@dataclass
class _Wanted:
    """What llguidance asks of a tokenizer."""

    eos_token_id: int
    bos_token_id: int | None
    tokens: list[bytes]
    special_token_ids: list[int]
    encode: Callable[[str], list[int]]

    def __call__(self, text: str) -> list[int]:
        if not isinstance(text, str):  # it tries bytes first
            raise TypeError
        return self.encode(text)


def _json_grammar(schema: dict[str, Any] | bool) -> str:
    from llguidance import LLMatcher

    text = json.dumps(schema if isinstance(schema, dict) else {"allOf": [schema]})
    return LLMatcher.grammar_from_json_schema(text, overrides=_JSON_OPTIONS)


def _limits() -> Any:
    """What a grammar may cost: below the library's own limits, which allow hundreds of megabytes."""
    from llguidance import LLParserLimits

    return LLParserLimits(max_lexer_states=50_000, max_grammar_size=200_000, verbose_errors=False)


def _multiples(node: Any) -> list[dict[str, Any]]:
    """The numbers in a schema that must be multiples, each as a schema of its own."""
    if isinstance(node, list):
        return [found for child in node for found in _multiples(child)]
    if not isinstance(node, dict):
        return []
    found = [n for key, child in node.items() if key not in ("const", "enum") for n in _multiples(child)]
    if _is_multiple(node):
        found.append({k: node[k] for k in ("minimum", "maximum", "multipleOf") if k in node} | {"type": "number"})
    return found


def _is_multiple(node: dict[str, Any]) -> bool:
    # A property may have this name; then a schema stands there.
    return isinstance(value := node.get("multipleOf"), int | float) and not isinstance(value, bool)


def _bits(flags: np.ndarray) -> np.ndarray:
    """[V] bool as bits in whole words of 32: [ceil(V / 32) * 4] uint8."""
    packed = np.packbits(flags, bitorder="little")
    return np.concatenate([packed, np.zeros(-len(packed) % 4, np.uint8)])


def _literal(text: str) -> str:
    return "".join(c if c.isalnum() else rf"\x{{{ord(c):X}}}" for c in text)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _unusable(given: object, why: str) -> ConfigError:
    told: str | Sentence = " ".join(why.split("<non-verbose", 1)[0].split())[:200]
    if "oneOf constraints" in why:
        told = Sentence("the options of a oneOf are not told apart by their types or by a constant")
    elif "no text" in why:
        told = Sentence("no text of this tokenizer matches it")
    return ConfigError(
        "the output format {format} cannot be used: {why}",
        hint="Make it simpler.",
        format=repr(given)[:80],
        why=told,
    )


def _stuck(why: str | Sentence) -> ConfigError:
    return ConfigError(
        "the text cannot go on in its output format: {why}",
        hint="Make the format simpler, or take a model whose tokenizer has the characters that it needs.",
        why=why if isinstance(why, Sentence) else " ".join(why.split())[:200],
    )
