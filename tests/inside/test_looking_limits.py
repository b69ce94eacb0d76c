"""Looking inside where something is too much, too little, of another kind, or wanted no more."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from glassgpt.core.errors import ConfigError, GlassError, InputError
from glassgpt.engine.language_model import LanguageModel
from glassgpt.inside import subject
from glassgpt.inside.ablate import Switches, ablate, answer_with
from glassgpt.inside.attribute import attribute
from glassgpt.inside.carried import carried_to
from glassgpt.inside.heads import head_scores
from glassgpt.inside.lens import logit_lens
from glassgpt.inside.opened import Opened
from glassgpt.inside.steps import read_steps
from glassgpt.inside.subject import ids_of, network_of, unpacked_bytes
from glassgpt.inside.suffix_array import MOST, sort_suffixes
from glassgpt.inside.trace import run_with_trace
from glassgpt.inside.tuned import TunedLens
from glassgpt.model.config import ModelConfig
from glassgpt.model.encoder import Encoder
from glassgpt.model.gpt import GPT
from glassgpt.model.transformer import Transformer, TransformerConfig
from glassgpt.text.bpe import train_bpe

TEXT = "The boat went out to sea, and the sea was calm."


@pytest.fixture(scope="module")
def learning() -> LanguageModel:
    """A network as it comes from training, whose weights want gradients."""
    torch.manual_seed(1)
    tokenizer = train_bpe([TEXT] * 3, 300)
    config = ModelConfig.modern(vocab_size=tokenizer.vocab_size, n_layer=2, n_head=2, n_embd=16, context_length=64)
    return LanguageModel("learning", GPT(config).eval(), tokenizer, "float32")


def test_a_network_whose_weights_want_gradients_is_looked_into_and_gets_none(learning):
    found = attribute(learning, TEXT)
    assert found.gap < 0.02
    TunedLens.train(learning, [TEXT * 40], minutes=0.002)
    logit_lens(learning, TEXT), ablate(learning, TEXT, Switches(heads=[(0, 0)])), read_steps(learning, TEXT)
    assert all(p.grad is None for p in learning.network.parameters())


def test_gradients_that_nobody_waits_for_end_and_a_time_that_is_over_ends_after_the_first(learning, monkeypatch):
    monkeypatch.setattr("glassgpt.inside.attribute._AT_ONCE", 64)
    with pytest.raises(InputError, match="nobody waits"):
        attribute(learning, TEXT, going=lambda: False)
    asked: list[float] = []

    def twice() -> bool:
        asked.append(time.monotonic())
        return len(asked) < 2

    with pytest.raises(InputError, match="nobody waits"):
        attribute(learning, [5] * 60, going=twice)
    assert len(asked) == 2
    assert attribute(learning, TEXT, seconds=0).steps == 24


def test_what_would_not_fit_into_memory_is_refused_whatever_is_kept_of_it(learning, monkeypatch):
    """The scores, and one layer's attention, are there whether they are kept or not."""
    ids = [5] * 64
    kept = 4 * 64 * 16 * 3  # resid_post of two layers, and the last norm
    monkeypatch.setattr(subject, "MOST_BYTES", kept + 1000)
    for look in (lambda: run_with_trace(learning, ids, ["resid_post"]), lambda: logit_lens(learning, ids),
                 lambda: ablate(learning, ids, Switches(heads=[(0, 0)])), lambda: Opened(learning, ids).prepare(),
                 lambda: head_scores(learning), lambda: attribute(learning, ids)):  # fmt: skip
        with pytest.raises(ConfigError, match="64 tokens take"):
            look()


def test_a_model_is_not_unpacked_into_memory_that_is_not_there(learning, tmp_path, monkeypatch):
    from glassgpt.engine.load import load

    learning.save(tmp_path / "model")
    model = load(str(tmp_path / "model"), precision="int8")
    need = unpacked_bytes(model)
    assert need == 4 * learning.network.count_parameters()
    monkeypatch.setattr(subject, "available_memory", lambda: need - 1)
    with pytest.raises(GlassError, match="of memory"):
        network_of(model)
    monkeypatch.setattr(subject, "available_memory", lambda: None)
    assert network_of(model).count_parameters() * 4 == need and unpacked_bytes(model) == 0


def test_several_sequences_are_several_or_refused_and_never_one_long_one(learning):
    pair = [[1, 2], [3, 4]]
    for given in (pair, np.array(pair), torch.tensor(pair)):
        logits, _ = run_with_trace(learning.network, given)
        assert logits.shape[:2] == (2, 2)
        if not isinstance(given, list):
            with pytest.raises(InputError, match="2 sequences"):
                run_with_trace(learning, given)
    assert ids_of(learning, np.array([[1, 2]])) == ids_of(learning, [np.int64(1), 2]) == [1, 2]
    with pytest.raises(InputError, match="messages"):
        ids_of(learning, [{"role": "user", "content": "x"}, 3])  # type: ignore[list-item]


def test_each_side_of_an_encoder_and_decoder_has_a_vocabulary_of_its_own():
    network = Transformer(TransformerConfig(9, 30, embed_size=8, heads=2, encoder_layers=1, decoder_layers=1, mlp_dim=8,
                                            max_len=6, dropout=0.0)).eval()  # fmt: skip
    run_with_trace(network, ([8], [29]))
    for pair, said in ((([20], [1]), "which has 9"), (([1], [30]), "which has 30"), (([1] * 7, [1]), "7 tokens"),
                       (([[1], [2]], [[1]]), "2 sources and 1 targets")):  # fmt: skip
        with pytest.raises(InputError, match=said):
            run_with_trace(network, pair)
    encoder = Encoder(ModelConfig(vocab_size=9, n_layer=1, n_head=2, n_embd=8, context_length=4, encoder=True,
                                  positions="learned")).eval()  # fmt: skip
    with pytest.raises(InputError, match="5 tokens"):
        run_with_trace(encoder, [1] * 5)


def test_an_answer_again_ends_with_the_context_where_no_length_is_asked_for(learning):
    pieces = list(answer_with(learning, [5] * 60, Switches(heads=[(0, 0)]), ends=[]))
    assert pieces[-1].finish_reason == "length"
    said = "".join(p.text for p in answer_with(learning, TEXT, Switches(), 20, seed=3, temperature=2.0))
    stop = said[4:7]
    cut = "".join(p.text for p in answer_with(learning, TEXT, Switches(), 20, seed=3, temperature=2.0, stops=stop))
    assert cut == said[: said.index(stop)]


def test_a_network_that_drops_values_at_random_is_not_looked_into():
    network = GPT(ModelConfig(vocab_size=20, n_layer=1, n_head=1, n_embd=8, context_length=8, dropout=0.3)).train()
    with pytest.raises(ConfigError, match="at random"):
        network_of(network)
    assert network_of(network.eval()) is network


@pytest.mark.parametrize("given", [0, -1, 101])
def test_numbers_out_of_range_are_refused_by_name(learning, given):
    opened = Opened(learning, TEXT and learning.encode(TEXT))
    with pytest.raises(ConfigError, match="top"):
        ablate(learning, TEXT, Switches(), top=given)
    for look in (opened.readers, lambda place: carried_to(opened, place)):
        with pytest.raises(ConfigError, match="place"):
            look(given)
    with pytest.raises(ConfigError, match="sequences"):
        head_scores(learning, sequences=given if given < 1 else 2000)
    with pytest.raises(InputError, match=f"places 0 to {given if given > 0 else -9} are"):
        logit_lens(learning, TEXT, stop=given if given > 0 else -9)


def test_no_more_symbols_are_sorted_at_once_than_keys_have_room_for():
    with pytest.raises(ConfigError, match="at most 16,777,215"):
        sort_suffixes(np.broadcast_to(np.uint16(1), MOST + 1), 5)
