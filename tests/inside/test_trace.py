"""What a trace holds, against the transformers library and against itself."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import transformers

import glassgpt
from glassgpt.core.errors import ConfigError, InputError
from glassgpt.formats.huggingface import huggingface_network
from glassgpt.inside.subject import MOST_BYTES
from glassgpt.inside.trace import run_with_trace, trace_names
from glassgpt.model.config import ModelConfig
from glassgpt.model.encoder import Encoder
from glassgpt.model.gpt import GPT
from glassgpt.model.transformer import Transformer, TransformerConfig

BOUND = 1e-4
SMALL: dict[str, Any] = dict(
    vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6,
    num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5,
    pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip
CASES = {
    "gpt2": lambda: transformers.GPT2Config(vocab_size=97, n_embd=48, n_layer=3, n_head=6, n_positions=64),
    "llama": lambda: transformers.LlamaConfig(**SMALL),
    "qwen2": lambda: transformers.Qwen2Config(**SMALL),
    "qwen3": lambda: transformers.Qwen3Config(**SMALL, head_dim=16),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **SMALL, head_dim=16, sliding_window=5, query_pre_attn_scalar=16,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    ),
}  # fmt: skip
# Where the library's modules give or take what a trace calls by these names; {} is the layer.
GPT2_PLACES = {"attn_out": "transformer.h.{}.attn.c_proj", "z": ">transformer.h.{}.attn.c_proj",
               "mlp.hidden": ">transformer.h.{}.mlp.c_proj", "mlp_out": "transformer.h.{}.mlp"}  # fmt: skip
LLAMA_PLACES = {"attn_out": "model.layers.{}.self_attn.o_proj", "z": ">model.layers.{}.self_attn.o_proj",
                "v": "model.layers.{}.self_attn.v_proj", "mlp.hidden": ">model.layers.{}.mlp.down_proj",
                "mlp_out": "model.layers.{}.mlp"}  # fmt: skip
PLACES = {
    "gpt2": GPT2_PLACES,
    "gemma3": LLAMA_PLACES | {"attn_out": "model.layers.{}.post_attention_layernorm",
                              "mlp_out": "model.layers.{}.post_feedforward_layernorm"},
}  # fmt: skip


def ids(length: int = 20, batch: int = 2) -> torch.Tensor:
    return torch.randint(3, 97, (batch, length), generator=torch.Generator().manual_seed(1))


def reference(case: str) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    config = CASES[case]()
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn_like(p) * (0.3 if "norm" in name or "ln_" in name else 0.12) + ("norm" in name) * 1.0)
    return model


def watched(model: transformers.PreTrainedModel, places: dict[str, str]) -> dict[str, torch.Tensor]:
    """What goes into (">") and comes out of the library's modules from now on, by our names."""
    found: dict[str, torch.Tensor] = {}

    def watch(name: str, place: str) -> None:
        module = model.get_submodule(place.removeprefix(">"))
        if place.startswith(">"):
            module.register_forward_pre_hook(lambda _, args: found.__setitem__(name, args[0]))
        else:
            module.register_forward_hook(lambda _, args, out: found.__setitem__(name, out))

    for layer in range(model.config.num_hidden_layers):
        for name, place in places.items():
            watch(f"blocks.{layer}.{'attn.' if len(name) == 1 else ''}{name}", place.format(layer))
    return found


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    theirs = reference(request.param)
    theirs.save_pretrained(folder := tmp_path_factory.mktemp("model"))
    return request.param, theirs, huggingface_network(folder, torch.float32)


def test_patterns_and_streams_are_those_of_transformers(pair):
    case, theirs, ours = pair
    found = watched(theirs, PLACES.get(case, LLAMA_PLACES))
    with torch.no_grad():
        expected = theirs(ids(), output_attentions=True, output_hidden_states=True)
    logits, trace = run_with_trace(ours, ids())
    layers, streams = ours.config.n_layer, expected.hidden_states
    wanted = {f"blocks.{i}.attn.pattern": a for i, a in enumerate(expected.attentions)}
    wanted |= {f"blocks.{i}.resid_pre": streams[i] for i in range(layers)}
    wanted |= {f"blocks.{i}.resid_post": streams[i + 1] for i in range(layers - 1)}
    wanted |= {"final_norm": streams[-1], "logits": expected.logits} | found
    assert len(found) == layers * len(PLACES.get(case, LLAMA_PLACES))
    for name, values in wanted.items():
        own = trace[name]
        if name.endswith((".z", ".v")):
            own = own.transpose(1, 2).flatten(2)
        assert (own - values).abs().max() <= BOUND, name
        assert values.abs().max() > 0.05, f"{name} must say something, or nothing is compared"
    assert torch.equal(logits, trace["logits"])


def test_a_trace_has_every_name_and_its_parts_make_up_the_whole(pair):
    _, _, ours = pair
    logits, trace = run_with_trace(ours, ids())
    assert list(trace) == trace_names(ours.config)
    with torch.no_grad():
        assert (logits - ours(ids())).abs().max() <= 1e-5, "fused and explicit attention are one"
    for i in range(ours.config.n_layer):
        block = {name: trace[f"blocks.{i}.{name}"] for name in ("resid_pre", "attn_out", "resid_mid", "mlp_out")}
        pattern, q, k, v, z = (trace[f"blocks.{i}.attn.{name}"] for name in ("pattern", "q", "k", "v", "z"))
        assert (pattern.sum(-1) - 1).abs().max() < 1e-5 and pattern.min() >= 0
        assert pattern.triu(1).abs().max() == 0, "nothing looks ahead"
        assert torch.allclose(block["resid_pre"] + block["attn_out"], block["resid_mid"])
        assert torch.allclose(block["resid_mid"] + block["mlp_out"], trace[f"blocks.{i}.resid_post"])
        groups = q.shape[1] // k.shape[1]
        scores = q @ k.repeat_interleave(groups, 1).transpose(-2, -1) * ours.blocks[i].attention.scale
        scores = scores.masked_fill(pattern == 0, -torch.inf)
        assert (scores.softmax(-1) - pattern).abs().max() < 1e-5
        assert (pattern @ v.repeat_interleave(groups, 1) - z).abs().max() < 1e-5


def test_a_sliding_window_shows_in_the_pattern(tmp_path):
    reference("gemma3").save_pretrained(tmp_path)
    _, trace = run_with_trace(huggingface_network(tmp_path, torch.float32), ids(), ["pattern"])
    near = trace["blocks.0.attn.pattern"].tril(-5)
    assert near.abs().max() == 0 and trace["blocks.1.attn.pattern"].tril(-5).abs().max() > 0


def test_an_encoder_is_traced_as_transformers_has_it(tmp_path):
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=97, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
                                     intermediate_size=80, max_position_embeddings=40, type_vocab_size=1,
                                     attn_implementation="eager")  # fmt: skip
    theirs = transformers.BertModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    ours = Encoder(ModelConfig(vocab_size=97, n_layer=2, n_head=4, n_embd=48, mlp_dim=80, context_length=40,
                               positions="learned", norm="layernorm", norm_eps=1e-12, mlp="gelu", qkv_bias=True,
                               out_bias=True, mlp_bias=True, encoder=True)).eval()  # fmt: skip
    weights = theirs.state_dict()
    state = {"embed.weight": weights["embeddings.word_embeddings.weight"],
             "positions.weight": weights["embeddings.position_embeddings.weight"]
             + weights["embeddings.token_type_embeddings.weight"][0]}  # fmt: skip
    for i in range(2):
        layer = f"encoder.layer.{i}."
        before = f"encoder.layer.{i - 1}.output.LayerNorm" if i else "embeddings.LayerNorm"
        names = {"attention_norm": before, "attention.q_proj": layer + "attention.self.query",
                 "attention.k_proj": layer + "attention.self.key", "attention.v_proj": layer + "attention.self.value",
                 "attention.out_proj": layer + "attention.output.dense",
                 "mlp_norm": layer + "attention.output.LayerNorm", "mlp.up": layer + "intermediate.dense",
                 "mlp.down": layer + "output.dense"}  # fmt: skip
        state |= {f"blocks.{i}.{own}.{kind}": weights[f"{name}.{kind}"] for own, name in names.items()
                  for kind in ("weight", "bias")}  # fmt: skip
    state |= {f"norm.{kind}": weights[f"encoder.layer.1.output.LayerNorm.{kind}"] for kind in ("weight", "bias")}
    ours.load_state_dict(state)
    with torch.no_grad():
        expected = theirs(ids(), output_attentions=True, output_hidden_states=True)
    vectors, trace = run_with_trace(ours, ids())
    assert list(trace) == trace_names(ours.config)
    for i, (pattern, stream) in enumerate(zip(expected.attentions, expected.hidden_states, strict=False)):
        assert (trace[f"blocks.{i}.attn.pattern"] - pattern).abs().max() <= BOUND
        assert (trace[f"blocks.{i}.resid_pre"] - stream).abs().max() <= BOUND
    assert (vectors - expected.last_hidden_state).abs().max() <= BOUND


@pytest.mark.parametrize("pre_norm", [False, True])
def test_an_encoder_and_decoder_are_traced_as_torch_has_them(pre_norm):
    torch.manual_seed(0)
    config = TransformerConfig(source_vocab=30, target_vocab=31, embed_size=32, heads=4, encoder_layers=2,
                               decoder_layers=2, mlp_dim=48, dropout=0.0, max_len=20, pre_norm=pre_norm)  # fmt: skip
    ours = Transformer(config).eval()
    source, target = torch.randint(1, 30, (2, 7)), torch.randint(1, 31, (2, 5))
    logits, trace = run_with_trace(ours, (source, target))
    assert list(trace) == trace_names(config)
    with torch.no_grad():
        assert (logits - ours(source, target)).abs().max() < 1e-5
    for part in ("encoder.blocks.0.attn", "decoder.blocks.1.attn", "decoder.blocks.1.cross"):
        assert (trace[f"{part}.pattern"].sum(-1) - 1).abs().max() < 1e-5
    assert trace["decoder.blocks.0.cross.pattern"].shape == (2, 4, 5, 7)
    assert trace["decoder.blocks.0.attn.pattern"].triu(1).abs().max() == 0

    # torch's own attention with the same weights gives the same pattern.
    layer = ours.decoder[0].cross
    theirs = torch.nn.MultiheadAttention(32, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in (layer.q_proj, layer.k_proj, layer.v_proj)]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in (layer.q_proj, layer.k_proj, layer.v_proj)]))
        stream = trace["decoder.blocks.0.resid_mid"]
        query = ours.decoder[0].cross_residual.before(stream)
        memory = trace["encoder.final_norm"]
        _, pattern = theirs(query, memory, memory, average_attn_weights=False)
    assert (pattern - trace["decoder.blocks.0.cross.pattern"]).abs().max() < 1e-5


def tiny(**changes: Any) -> GPT:
    torch.manual_seed(0)
    sizes: dict[str, Any] = dict(vocab_size=97, n_layer=2, n_head=4, n_embd=32, context_length=64)
    return GPT(ModelConfig(**sizes | changes)).eval()


def test_names_choose_what_is_kept():
    network = tiny()
    _, trace = run_with_trace(network, ids(8, 1), ["blocks.1.*", "embed"])
    assert set(trace) == {"embed", *(n for n in trace_names(network.config) if n.startswith("blocks.1."))}
    _, trace = run_with_trace(network, ids(8, 1), ["pattern"])
    assert list(trace) == ["blocks.0.attn.pattern", "blocks.1.attn.pattern"]
    with pytest.raises(KeyError, match=r"blocks.0.attn.pattern"):
        trace["blocks.0.attn.patern"]


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"blocks.1.resid_psot") as caught:
        run_with_trace(tiny(), ids(8, 1), ["blocks.1.resid_psot"])
    assert "blocks.1.resid_post" in caught.value.hint()


def test_what_would_not_fit_into_memory_is_refused_before_it_is_computed():
    network = tiny(context_length=1 << 17, positions="rotary")
    with pytest.raises(ConfigError, match=f"{MOST_BYTES / 1e9:.1f}"):
        run_with_trace(network, [5] * 40_000)
    run_with_trace(network, [5] * 100)


@pytest.mark.parametrize(("prompt", "said"), [
    ([], "empty"), ([97], "97"), ([-1], "-1"), ("text", "ids"), ([1] * 65, "65"), ([7.5], "7.5"), ([True], "True"),
    ([[7, 97]], "97"), ([[7], [1, 2], [3]], "ids"), ([[]], "ids"), ([[[1]]], "ids"), ([None], "None"),
    (5, "int was given"), (None, "NoneType was given"), ({"a": 1}, "dict was given"),
    ([{"role": "user", "content": "x"}], "ids"),
])  # fmt: skip
def test_bad_prompts_are_refused_in_one_line(prompt, said):
    with pytest.raises(InputError, match=said):
        run_with_trace(tiny(), prompt)
    with pytest.raises(InputError):
        run_with_trace(Transformer(TransformerConfig(9, 9, 8, 2, 1, 1, 8)), prompt)


def test_several_sequences_may_be_given_as_lists():
    rows = [[5, 6, 7], [8, 9, 10]]
    assert torch.equal(run_with_trace(tiny(), rows)[0], run_with_trace(tiny(), torch.tensor(rows))[0])


def test_a_network_that_drops_values_at_random_is_refused():
    with pytest.raises(ConfigError, match="random"):
        run_with_trace(tiny(dropout=0.1).train(), ids(8, 1))


def test_tracing_leaves_the_network_as_it_was_and_a_request_beside_it_notices_nothing():
    network = tiny(n_layer=4)
    with torch.no_grad():
        expected = network(ids())
    before = {name: id(value) for name, value in network.named_parameters()}
    wrong: list[float] = []
    end = threading.Event()

    def ask() -> None:
        with torch.no_grad():
            while not end.is_set():
                wrong.append(float((network(ids()) - expected).abs().max()))

    beside = threading.Thread(target=ask)
    beside.start()
    for _ in range(20):
        run_with_trace(network, ids(), probe=lambda name, value: value * 0 if name.endswith("z") else value)
    end.set()
    beside.join()
    assert wrong and max(wrong) == 0
    assert before == {name: id(value) for name, value in network.named_parameters()}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_a_probe_changes_what_follows_it_and_nothing_before():
    network = tiny()
    _, plain = run_with_trace(network, ids())
    _, changed = run_with_trace(network, ids(), probe=lambda n, v: v + 1 if n == "blocks.1.attn.z" else v)
    names = list(plain)
    at = names.index("blocks.1.attn.z")
    assert all(torch.equal(plain[name], changed[name]) for name in names[:at])
    assert not any(torch.equal(plain[name], changed[name]) for name in names[at:])


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-3), ("bfloat16", 0.2), ("int4", 5.0)])
def test_a_model_in_the_engine_is_traced_with_its_own_weights(smollm2_path, precision, bound):
    model = glassgpt.load("smollm2", precision=precision)
    logits, trace = glassgpt.run_with_trace(model, "The capital of France is")
    assert trace.tokens == ["The", " capital", " of", " France", " is"]
    assert model.tokenizer.decode([int(logits[0, -1].argmax())]) == " Paris"
    assert trace.engine_difference is not None and 0 < trace.engine_difference < bound
    if precision == "float32":
        with torch.no_grad():
            assert (model.network(torch.tensor([trace.ids])) - logits).abs().max() < 1e-3


@pytest.mark.slow
def test_messages_are_laid_out_by_the_models_template(smollm2_path):
    model = glassgpt.load("smollm2")
    _, trace = glassgpt.run_with_trace(model, [{"role": "user", "content": "<|im_end|>"}], ["embed"])
    assert trace.tokens[-3:] == ["ass", "istant", "\n"] and trace.tokens[0] == "<|im_start|>"
    assert trace.tokens.count("<|im_end|>") == 2, "what a user types stays text"
