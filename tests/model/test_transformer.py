"""The encoder-decoder against torch.nn.Transformer, and what must hold whatever the weights are."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from glassgpt.core.errors import ConfigError, InputError
from glassgpt.model.attention import SelfAttention
from glassgpt.model.positions import sinusoidal_table
from glassgpt.model.transformer import Transformer, TransformerConfig

PAD, BOS, EOS = 0, 1, 2
SMALL = TransformerConfig(
    source_vocab=11, target_vocab=13, embed_size=24, heads=3, encoder_layers=2, decoder_layers=2, mlp_dim=40, max_len=24
)
MODELS: dict[bool, Transformer] = {}


def make(config: TransformerConfig = SMALL, seed: int = 0) -> Transformer:
    """A model in eval mode, every parameter (norms and biases too) random."""
    torch.manual_seed(seed)
    model = Transformer(config).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, mean=0.5, std=0.3)
    return model


def shared_model(pre_norm: bool) -> Transformer:
    if pre_norm not in MODELS:
        MODELS[pre_norm] = make(replace(SMALL, pre_norm=pre_norm))
    return MODELS[pre_norm]


def copy_attention(ours: SelfAttention, theirs: nn.MultiheadAttention) -> None:
    parts = (ours.q_proj, ours.k_proj, ours.v_proj)
    theirs.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
    theirs.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
    theirs.out_proj.load_state_dict(ours.out_proj.state_dict())


def copy_layer(ours: nn.Module, theirs: nn.Module) -> None:
    copy_attention(ours.attention, theirs.self_attn)
    norms = [ours.attention_residual.norm, ours.mlp_residual.norm]
    if hasattr(ours, "cross"):
        copy_attention(ours.cross, theirs.multihead_attn)
        norms.insert(1, ours.cross_residual.norm)
    theirs.linear1.load_state_dict(ours.mlp.up.state_dict())
    theirs.linear2.load_state_dict(ours.mlp.down.state_dict())
    for number, norm in enumerate(norms, start=1):
        getattr(theirs, f"norm{number}").load_state_dict(norm.state_dict())


@torch.no_grad()
def reference(model: Transformer) -> nn.Transformer:
    """torch's own Transformer with `model`'s weights. The paper's post-norm form has no norm after a stack."""
    c = model.config
    theirs = nn.Transformer(
        c.embed_size, c.heads, c.encoder_layers, c.decoder_layers, c.mlp_dim, batch_first=True, norm_first=c.pre_norm
    ).eval()
    for stack, layers, norm in (
        (theirs.encoder, model.encoder, model.encoder_norm),
        (theirs.decoder, model.decoder, model.decoder_norm),
    ):
        for ours, copy in zip(layers, stack.layers, strict=True):
            copy_layer(ours, copy)
        if c.pre_norm:
            stack.norm.load_state_dict(norm.state_dict())
        else:
            stack.norm = None
    return theirs


@torch.no_grad()
def reference_logits(model: Transformer, source: Tensor, target: Tensor) -> Tensor:
    """What the paper says around the two stacks (3.4, 3.5), around torch's stacks."""
    scale, width = math.sqrt(model.config.embed_size), model.config.embed_size
    x = model.source_embedding(source) * scale + sinusoidal_table(source.shape[1], width)
    y = model.target_embedding(target) * scale + sinusoidal_table(target.shape[1], width)
    later = torch.ones(target.shape[1], target.shape[1]).triu(1).bool()  # torch masks with True
    out = reference(model)(
        x,
        y,
        tgt_mask=later,
        src_key_padding_mask=source == PAD,
        tgt_key_padding_mask=target == PAD,
        memory_key_padding_mask=source == PAD,
    )
    return out @ model.target_embedding.weight.T


def padded(rows: list[list[int]], extra: int = 0) -> Tensor:
    longest = max(map(len, rows)) + extra
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_logits_equal_torch_nn_transformer_with_padding_and_the_causal_mask(pre_norm: bool, shared: bool):
    vocab = 13 if shared else 11
    model = make(replace(SMALL, pre_norm=pre_norm, share_embeddings=shared, source_vocab=vocab), seed=3)
    generator = torch.Generator().manual_seed(5)
    for _ in range(5):
        lengths = torch.randint(1, 12, (2, 4), generator=generator).tolist()
        source = padded([torch.randint(1, vocab, (n,), generator=generator).tolist() for n in lengths[0]])
        target = padded([torch.randint(1, 13, (n,), generator=generator).tolist() for n in lengths[1]])
        for ids in (source, target):  # padding may also stand between real tokens
            ids[:, 1:][torch.rand(ids[:, 1:].shape, generator=generator) < 0.2] = PAD
        with torch.no_grad():
            ours = model(source, target)
        theirs = reference_logits(model, source, target)
        real = target != PAD
        assert (ours - theirs)[real].abs().max() < 1e-5
        assert ours[real].std() > 0.1  # the comparison is about something


def test_post_norm_and_pre_norm_are_different_networks():
    source, target = torch.tensor([[3, 4, 5]]), torch.tensor([[1, 6]])
    with torch.no_grad():
        assert (shared_model(False)(source, target) - shared_model(True)(source, target)).abs().max() > 0.1


tokens = st.lists(st.integers(1, 10), min_size=1, max_size=9)


@settings(max_examples=40, deadline=None)
@given(source=tokens, target=tokens, data=st.data(), pre_norm=st.booleans())
def test_changing_a_later_target_token_never_changes_an_earlier_logit(source, target, data, pre_norm):
    model = shared_model(pre_norm)
    place = data.draw(st.integers(0, len(target) - 1))
    other = list(target)
    other[place] = other[place] % 10 + 1
    with torch.no_grad():
        before, after = model(torch.tensor([source] * 2), torch.tensor([target, other]))
    torch.testing.assert_close(before[:place], after[:place], rtol=0, atol=1e-6)
    assert (before[place] - after[place]).abs().max() > 1e-3  # its own logits do change


@settings(max_examples=40, deadline=None)
@given(source=tokens, target=tokens, more=st.tuples(st.integers(0, 5), st.integers(0, 5)), pre_norm=st.booleans())
def test_padding_added_to_source_or_target_never_changes_real_outputs(source, target, more, pre_norm):
    model = shared_model(pre_norm)
    with torch.no_grad():
        alone = model(padded([source]), padded([target]))
        wider = model(padded([source], more[0]), padded([target], more[1]))
    torch.testing.assert_close(wider[:, : len(target)], alone, rtol=0, atol=1e-5)
    assert wider.isfinite().all()


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(tokens, min_size=2, max_size=4), pre_norm=st.booleans())
def test_a_row_is_written_the_same_alone_and_in_a_batch(rows, pre_norm):
    model = shared_model(pre_norm)
    together = model.generate(padded(rows), BOS, EOS, 8).tolist()
    for row, batched in zip(rows, together, strict=True):
        alone = model.generate(padded([row]), BOS, EOS, 8)[0].tolist()
        assert batched == alone + [PAD] * (len(batched) - len(alone))


def test_every_source_token_is_read():
    model = shared_model(False)
    source, target = torch.tensor([[3, 4, 5, 6]]), torch.tensor([[1, 2]])
    with torch.no_grad():
        first = model(source, target)[0, 0]
        for place in range(4):
            other = source.clone()
            other[0, place] = 9
            assert (model(other, target)[0, 0] - first).abs().max() > 1e-3


def test_generate_takes_the_likeliest_token_each_time_and_stops_at_eos():
    seen = {"ended": 0, "cut": 0}
    for seed in range(8):
        model = make(seed=seed)
        source = torch.randint(1, 11, (3, 6), generator=torch.Generator().manual_seed(seed))
        out = model.generate(source, BOS, EOS, 7)
        assert out.shape[1] <= 7
        for row, ids in zip(source, out.tolist(), strict=True):
            written: list[int] = []
            while len(written) < 7 and EOS not in written:
                with torch.no_grad():
                    logits = model(row[None], torch.tensor([[BOS, *written]]))[0, -1]
                written.append(max(range(1, 13), key=lambda token, scores=logits: float(scores[token])))
            assert ids == written + [PAD] * (len(ids) - len(written))
            seen["ended" if EOS in written else "cut"] += 1
    assert min(seen.values()) > 0, "both ways of ending must be tried"


def test_generate_never_writes_padding_even_when_it_scores_highest():
    model = make()
    with torch.no_grad():
        model.target_embedding.weight[PAD] = 50 * torch.ones(24)  # with a positive last bias, padding always wins
        model.decoder[-1].mlp_residual.norm.bias.fill_(1.0)
        assert model(torch.tensor([[3, 4]]), torch.tensor([[BOS]]))[0, -1].argmax() == PAD
    out = model.generate(torch.tensor([[3, 4]]), BOS, EOS, 5)[0].tolist()
    assert out and PAD not in out


def test_dropout_acts_in_training_and_not_in_eval():
    model = make(replace(SMALL, dropout=0.5))
    source, target = torch.tensor([[3, 4, 5]]), torch.tensor([[1, 2]])
    with torch.no_grad():
        assert torch.equal(model(source, target), model(source, target))
        model.train()
        assert not torch.equal(model(source, target), model(source, target))


def test_one_vocabulary_means_one_table_and_the_output_is_the_target_table():
    model = make(replace(SMALL, source_vocab=13, share_embeddings=True))
    assert model.source_embedding.weight is model.target_embedding.weight
    with torch.no_grad():
        before = model(torch.tensor([[3]]), torch.tensor([[1]]))[0, 0]
        model.target_embedding.weight[7] *= 2
        after = model(torch.tensor([[3]]), torch.tensor([[1]]))[0, 0]
    torch.testing.assert_close(after[7], 2 * before[7])
    torch.testing.assert_close(after[8], before[8])


def test_the_default_is_the_papers_base_model():
    with torch.device("meta"):
        model = Transformer(TransformerConfig(37000, 37000, share_embeddings=True))
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(63e6, rel=0.01)  # table 3 rounds to 65 million


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"embed_size": 25}, "embed_size 25 is not a multiple of heads 3"),
        ({"heads": 0}, "heads is 0; expected a whole number of at least 1"),
        ({"decoder_layers": 2.0}, "decoder_layers is 2.0"),
        ({"mlp_dim": True}, "mlp_dim is True"),
        ({"source_pad": 11}, "source_pad is 11; the source vocabulary has ids 0 to 10"),
        ({"target_pad": -1}, "target_pad is -1; expected a whole number of at least 0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
        ({"dropout": math.nan}, "dropout is nan"),
        ({"share_embeddings": True}, "source_vocab is 11 and target_vocab 13"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused_with_its_values(changes, words):
    with pytest.raises(ConfigError, match=words):
        replace(SMALL, **changes)


def test_a_sequence_too_long_or_empty_is_refused_with_the_counts():
    model = shared_model(False)
    with pytest.raises(InputError, match=r"25 positions.*holds 24"):
        model(torch.ones(1, 25, dtype=torch.long), torch.ones(1, 2, dtype=torch.long))
    with pytest.raises(InputError, match=r"25 positions.*holds 24"):
        model(torch.ones(1, 2, dtype=torch.long), torch.ones(1, 25, dtype=torch.long))
    with pytest.raises(InputError, match="source row 1 holds nothing but padding"):
        model(torch.tensor([[3, 4], [0, 0]]), torch.tensor([[1], [1]]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((PAD, EOS, 5), "bos is 0"),
        ((BOS, 13, 5), "eos is 13"),
        ((BOS, EOS, 0), "max_len is 0"),
        ((BOS, EOS, 25), "max_len is 25; this model writes 1 to 24"),
    ],
)
def test_generate_refuses_what_it_cannot_do(arguments, words):
    with pytest.raises(InputError, match=words):
        shared_model(False).generate(torch.tensor([[3]]), *arguments)
