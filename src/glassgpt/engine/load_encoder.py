"""Loading an encoder, that turns texts into vectors: `e5-small` or `minilm` of the catalog, or a Hugging Face folder of
BERT's family."""

from __future__ import annotations

from pathlib import Path

import tokenizers

from glassgpt.core.errors import FormatError
from glassgpt.core.threads import thread_budget
from glassgpt.engine.encoder import EncoderTokenizer, TextEncoder
from glassgpt.engine.network import Network
from glassgpt.engine.packing import pack
from glassgpt.formats.bert_folder import read_bert
from glassgpt.formats.e5_file import is_e5, read_e5
from glassgpt.formats.fetch import locate
from glassgpt.formats.stored import collect
from glassgpt.text.unigram import Unigram

DEFAULT = "e5-small"
_E5_ROLES = {"query": "query: ", "passage": "passage: "}


class BertTokenizer:
    """A tokenizer.json whose texts stand between two tokens of their own."""

    def __init__(self, path: Path) -> None:
        try:
            self._engine = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise FormatError("the tokenizer cannot be built: {reason}", reason=str(error)[:200]) from error
        self._engine.no_truncation()
        self._engine.no_padding()
        around = self._engine.encode("", add_special_tokens=True).ids
        if len(around) != 2:
            raise FormatError("{file} puts {count} tokens around a text; expected 2", file=path.name, count=len(around))
        self.begin, self.end = around

    def encode(self, text: str) -> list[int]:
        """The ids of a text alone."""
        return self._engine.encode_batch_fast([text], add_special_tokens=False)[0].ids


def load_encoder(name: str = DEFAULT, *, precision: str = "auto", threads: int = 0,
                 pull_missing: bool = True) -> TextEncoder:  # fmt: skip
    """An encoder by its catalog name, its file or its folder.

    Args:
        precision: "float32", "bfloat16", "int8" or "int4"; "auto": 4 bits where the file has them, else 8.

    Raises:
        NotFoundError, FetchError: it is not here, or could not be brought here.
        FormatError: it is no encoder, or damaged.
    """
    path = locate(name, pull_missing=pull_missing)
    if path.name == "model.safetensors":
        path = path.parent
    threads = threads or thread_budget()
    tokenizer: EncoderTokenizer
    if is_e5(path):
        file = read_e5(path)
        config, tensors, roles, own = file.config, file.tensors, _E5_ROLES, "int4"
        pieces = file.pieces
        tokenizer = Unigram(pieces.pieces, pieces.scores, pieces.begin, pieces.end, pieces.unknown, pieces.changes)
    elif path.is_dir():
        (config, tensors), roles, own = read_bert(path), {}, "int8"
        tokenizer = BertTokenizer(path / "tokenizer.json")
        if "e5" in path.name.lower():
            roles = _E5_ROLES
    else:
        raise FormatError("{name} is no encoder", hint="Give `e5-small`, or a folder of BERT's family.", name=name)
    precision = own if precision == "auto" else precision
    found = collect(config, tensors.items(), name)
    network = Network(config, pack(config, found, precision, name, threads), precision)
    return TextEncoder(network, tokenizer, threads, roles, name=f"{path.name} {precision}")
