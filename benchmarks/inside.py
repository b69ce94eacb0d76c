"""What looking inside costs: nothing where nobody looks, and how long each view takes.

    python -m benchmarks inside [--rounds 10] [--model smollm2] [--only probes views] [--attribute 30 250]

Probes: the network in torch with the places where it can be looked into, none given, beside the same network without
them (the classes below, which must compute the same), alternately; the ratio is the median of pairs, in the processor's
time of one thread. Views: each as the
page asks for it, of a text of 250 tokens, the first time left out but for the weights.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import time
from collections.abc import Callable
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor

import glassgpt
from glassgpt.core.threads import thread_budget
from glassgpt.engine.kv_cache import KVCache
from glassgpt.inside import subject
from glassgpt.inside.ablate import Switches, ablate
from glassgpt.inside.attribute import attribute
from glassgpt.inside.carried import carried_to
from glassgpt.inside.heads import head_scores
from glassgpt.inside.lens import logit_lens
from glassgpt.inside.opened import Opened
from glassgpt.inside.steps import read_steps
from glassgpt.inside.trace import run_with_trace
from glassgpt.model.attention import CausalSelfAttention, join_heads, split_heads
from glassgpt.model.config import ModelConfig
from glassgpt.model.fused import Gated, Rotation, worth_it
from glassgpt.model.gpt import GPT, Block
from glassgpt.model.layers import GatedMLP, activate
from glassgpt.model.positions import rotate

TEXT = "The boat went out to sea, and the sea was calm. The old man looked at the water, and nobody knew what he saw. "
PREFILL, WORDS, REPLY = 256, 250, 200


class PlainAttention(CausalSelfAttention):
    """Without a probe."""

    def forward(self, x: Tensor, mask: Any, rope: Any = None, cache: Any = None, stretches: Any = ()) -> Tensor:
        """As in `model.attention`."""
        q = split_heads(self.q_proj(x), self.n_head)
        k = split_heads(self.k_proj(x), self.n_kv_head)
        v = split_heads(self.v_proj(x), self.n_kv_head)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            turn = Rotation.apply if worth_it(q) else rotate
            q, k = turn(q, *rope), turn(k, *rope)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)
        q, k = q.to(v.dtype), k.to(v.dtype)
        if len(stretches) > 1:
            pieces = zip(*(t.split(list(stretches), dim=2) for t in (q, k, v)), strict=True)
            out = torch.cat([self._attend(q, k, v, None, causal=True) for q, k, v in pieces], dim=2)
        else:
            out = self._attend(q, k, v, mask, causal=bool(stretches))
        return self.out_proj(join_heads(out))


class PlainMLP(GatedMLP):
    """Without a probe."""

    def forward(self, x: Tensor) -> Tensor:
        """As in `model.layers`."""
        gate, up = self.gate(x), self.up(x)
        hidden = Gated.apply(gate, up, self.kind) if worth_it(gate) else activate(gate, self.kind) * up
        return self.down(hidden)


class PlainBlock(Block):
    """Without a probe."""

    def forward(self, x: Tensor, mask: Any, rope: Any, cache: Any, stretches: Any = ()) -> Tensor:
        """As in `model.gpt`."""
        attention_out = self.attention(self.attention_norm(x), mask, rope, cache, stretches)
        x = x + self.dropout(self.attention_post_norm(attention_out))
        return x + self.dropout(self.mlp_post_norm(self.mlp(self.mlp_norm(x))))


class PlainGPT(GPT):
    """Without a probe, for rotary positions, whole sequences and no padding."""

    def forward(self, ids: Tensor, keep: Any = None, cache: Any = None, segments: Any = None) -> Tensor:
        """As in `model.gpt`."""
        return self.logits(self.hidden(ids, keep, cache, segments))

    def hidden(self, ids: Tensor, keep: Any = None, cache: Any = None, segments: Any = None) -> Tensor:
        """As in `model.gpt`."""
        config, length = self.config, ids.shape[1]
        start = cache.length if cache is not None else 0
        self._check_length(start + length, length)
        places = torch.arange(start + length, device=ids.device)[None]
        positions = places[:, start:]
        x = self.embed(ids) * config.embed_scale
        if self.ngrams is not None:
            raise NotImplementedError
        rope = rope_local = None
        if config.positions == "rotary":
            rope = self.rope(positions, x.dtype)
            rope_local = self.rope_local(positions, x.dtype) if self.rope_local is not self.rope else rope
        plain = start == 0 and length > 1 and keep is None
        stretches = [ids.shape[1]] if plain else []
        if (length > 1 and not stretches) or keep is not None:
            raise NotImplementedError
        within = stretches if stretches and max(stretches) <= (config.sliding_window or 0) else []
        if config.sliding_layers and not within:
            raise NotImplementedError
        x = self.dropout(x)
        for block in self.blocks:
            if block.sliding:
                x = block(x, None, rope_local, cache, within)
            else:
                x = block(x, None, rope, cache, stretches)
        return self.norm(x)


PLAIN = {GPT: PlainGPT, Block: PlainBlock, CausalSelfAttention: PlainAttention, GatedMLP: PlainMLP}


def without_probes(network: GPT) -> GPT:
    """The same weights in the classes above."""
    memo = {id(p): p for p in network.parameters()}  # shared, so that both read the same memory
    twin = copy.deepcopy(network, memo)
    for module in twin.modules():
        module.__class__ = PLAIN.get(type(module), type(module))
    return twin


def compare(one: Callable[[], Any], other: Callable[[], Any], rounds: int) -> tuple[float, list[float]]:
    """Median seconds of the one, and the ratios one / other of pairs, each first in turn. On one thread, and of the
    processor's time: what other programs do must not hide a difference of some microseconds."""
    seconds, ratios = [], []
    for number in range(rounds + 2):
        took = {}
        for name, call in ((0, one), (1, other)) if number % 2 else ((1, other), (0, one)):
            begin = time.thread_time()
            call()
            took[name] = time.thread_time() - begin
        if number >= 2:
            seconds.append(took[0])
            ratios.append(took[0] / took[1])
    return median(seconds), ratios


def decoding(network: GPT, first: Tensor) -> Callable[[], None]:
    """A call that reads one token more each time, from `first` on; begins again before the context is full."""
    state: dict[str, Any] = {}
    token = first[:, :1]

    def step() -> None:
        if not state or state["cache"].length >= state["end"]:
            state["cache"] = KVCache(network.config)
            network(first, cache=state["cache"])
            state["end"] = state["cache"].length + 32
        network(token, cache=state["cache"])

    return step


def probes(name: str, network: GPT, rounds: int, steps: int) -> None:
    """Both sides of one network."""
    twin = without_probes(network)
    ids = torch.randint(0, network.config.vocab_size, (1, PREFILL), generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(ids), twin(ids)), "both must compute the same"
    caches = [KVCache(network.config), KVCache(network.config)]
    for side, cache in zip((network, twin), caches, strict=True):
        side(ids[:, :9], cache=cache)
    assert torch.equal(network(ids[:, 9:10], cache=caches[0]), twin(ids[:, 9:10], cache=caches[1]))
    short = ids[:, :16]
    for what, count, sides in (
        (f"prefill of {PREFILL}", rounds, (lambda: network(ids), lambda: twin(ids))),
        ("a token, cached", steps, (decoding(network, short), decoding(twin, short))),
    ):
        seconds, ratios = compare(*sides, count)
        low, _, high = quantiles(ratios, n=4)
        print(f"| {name}, {what} | {1000 * seconds:.2f} | {median(ratios):.4f} | {low:.4f} to {high:.4f} |", flush=True)


def tiny() -> GPT:
    """A network whose products take no time, so that what lies around them shows."""
    torch.manual_seed(0)
    config = ModelConfig.modern(vocab_size=256, n_layer=4, n_head=2, n_embd=32, context_length=512)
    return GPT(config).eval().requires_grad_(False)


def clock(name: str, call: Callable[[], Any], rounds: int = 3, warm: bool = True) -> Any:
    """A row of the table of views: the median, the least and the most."""
    if warm:
        call()
    took, now = [], time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    for _ in range(rounds):
        begin = now()
        found = call()
        took.append(now() - begin)
    print(f"| {name} | {median(took):.2f} | {min(took):.2f} to {max(took):.2f} |", flush=True)
    return found


def views(model: Any, attributed: list[int], rounds: int) -> None:
    """Each view once warmed."""

    def weights() -> None:
        subject._networks.clear()
        subject.network_of(model)

    def opened() -> Opened:
        made = Opened(model, ids)
        made.pattern(0, 0)
        return made

    ids = model.encode(TEXT * 12)[:WORDS]
    clock("weights out of the engine (`network_of`)", weights, rounds, warm=False)
    clock(f"a trace of {WORDS} tokens, all names", lambda: run_with_trace(model, ids), rounds)
    clock(f"steps of a reply of {REPLY} tokens", lambda: read_steps(model, ids, 10, WORDS - REPLY), rounds)
    clock(f"lens at 12 places of {WORDS}, every layer", lambda: logit_lens(model, ids, start=200, stop=212), rounds)
    text = clock(f"a text of {WORDS} tokens opened, with a pattern", opened, rounds)
    clock("another head's pattern and summary", lambda: (text.pattern(9, 4), text.summary(9, 4)), rounds)
    clock("lens at 12 places of a text that is open", lambda: text.lens(200, 212), rounds)
    clock(f"ablation of a head after {WORDS} tokens", lambda: ablate(model, ids, Switches(heads=((3, 1),))), rounds)
    clock(f"what {WORDS} tokens carried", lambda: carried_to(text, WORDS), rounds)
    clock("head_scores", lambda: head_scores(model), rounds)
    for count in attributed:
        found = clock(
            f"attribution of {count} tokens", lambda count=count: attribute(model, ids[:count]), 1, warm=False
        )
        print(f"| its gap and gradients | {100 * found.gap:.2f} % | {found.steps} |", flush=True)


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks inside", description=__doc__)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=2000, help="tokens decoded by the tiny network; a 20th of it else")
    parser.add_argument("--only", nargs="+", choices=["probes", "views"], default=["probes", "views"])
    parser.add_argument("--attribute", nargs="*", type=int, default=[30, 250])
    parser.add_argument("--one-core", action="store_true", help="views on one thread, in its own time; what "
                        "the engine and unpacking do on threads of their own is not counted")  # fmt: skip
    args = parser.parse_args()
    print(f"{platform.system()} {platform.machine()}, {thread_budget()} cores, load {os.getloadavg()[0]:.1f}\n")
    model = glassgpt.load(args.model)
    if "probes" in args.only:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        print("| probes in the code, none given | ms of one core | with / without | half of the pairs |")
        print("|---|---:|---:|---|")
        probes("tiny", tiny(), max(200, args.steps // 2), args.steps)
        probes(args.model, subject.network_of(model), args.rounds, args.steps // 20)
        torch.set_num_threads(threads)
    if "views" in args.only:
        if args.one_core:
            torch.set_num_threads(1)
        print(f"\n| {args.model}, {model.precision} | s | least to most |\n|---|---:|---|")
        with torch.enable_grad():
            views(model, args.attribute, min(args.rounds, 3))


if __name__ == "__main__":
    main()
