"""Input n-gram tables: the rows by hand, and the same scores whether read at once, with a cache, padded or packed."""

from __future__ import annotations

import random

import pytest
import torch

from glassgpt.engine.kv_cache import KVCache
from glassgpt.model.config import ModelConfig
from glassgpt.model.gpt import GPT
from glassgpt.model.ngrams import NgramEmbedding

CONFIG = ModelConfig.modern(
    vocab_size=11, n_layer=2, n_head=2, n_embd=16, context_length=32, ngrams=3, ngram_buckets=64
)


@pytest.fixture
def network() -> GPT:
    torch.manual_seed(0)
    network = GPT(CONFIG).eval()
    torch.nn.init.normal_(network.ngrams.weight)
    return network


def test_the_same_letters_have_the_same_row_and_pairs_that_fit_have_one_each():
    table = NgramEmbedding(vocab_size=7, longest=3, buckets=64, width=4)
    random.seed(1)
    ids = [random.randrange(7) for _ in range(400)]
    rows = table.rows(torch.tensor([ids]))[0].tolist()
    seen: list[dict[tuple[int, ...], int]] = [{}, {}]
    for t, found in enumerate(rows):
        for order in (2, 3):
            key = tuple(ids[max(0, t - order + 1) : t + 1])
            assert seen[order - 2].setdefault(key, found[order - 2]) == found[order - 2]
            assert (order - 2) * 64 <= found[order - 2] < (order - 1) * 64
    assert len(set(seen[0].values())) == len(seen[0])  # 8 * 8 pairs in 64 rows
    assert len(set(seen[1].values())) > 50  # triples share rows, evenly


@torch.no_grad()
def test_reading_piece_by_piece_gives_the_scores_of_reading_at_once(network):
    ids = torch.randint(0, 11, (2, 20))
    whole = network(ids)
    for cuts in ([5, 6, 7, 20], [1, 2, 3, 20], [19, 20]):
        cache, parts, at = KVCache(CONFIG, batch=2), [], 0
        for cut in cuts:
            parts.append(network(ids[:, at:cut], cache=cache))
            at = cut
        torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_what_a_truncated_cache_forgot_is_no_predecessor(network):
    ids = torch.randint(0, 11, (1, 12))
    cache = KVCache(CONFIG)
    network(torch.cat((ids[:, :6], torch.tensor([[3, 3, 3]])), dim=1), cache=cache)
    cache.truncate(6)
    torch.testing.assert_close(network(ids[:, 6:], cache=cache), network(ids)[:, 6:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_packed_and_padded_documents_are_read_as_if_alone(network):
    one, two = torch.randint(0, 11, (1, 7)), torch.randint(0, 11, (1, 9))
    alone = torch.cat((network(one), network(two)), dim=1)
    segments = torch.tensor([[0] * 7 + [1] * 9])
    torch.testing.assert_close(network(torch.cat((one, two), dim=1), segments=segments), alone, atol=1e-5, rtol=1e-5)
    keep = torch.tensor([[False] * 4 + [True] * 7])
    padded = torch.cat((torch.full((1, 4), 5), one), dim=1)
    torch.testing.assert_close(network(padded, keep=keep)[:, 4:], network(one), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_padding_in_a_cache_is_no_predecessor(network):
    one = torch.randint(0, 11, (1, 8))
    whole = network(one)
    for read in (1, 2, 7):
        cache, padding = KVCache(CONFIG), torch.full((1, 3), 5)
        keep = torch.tensor([[False] * 3 + [True] * 8])
        network(torch.cat((padding, one[:, :read]), dim=1), keep=keep[:, : 3 + read], cache=cache)
        for t in range(read, 8):
            scores = network(one[:, t : t + 1], keep=keep[:, : 4 + t], cache=cache)
            torch.testing.assert_close(scores[:, 0], whole[:, t], atol=1e-5, rtol=1e-5)


def test_tables_begin_at_zero_and_learn():
    torch.manual_seed(0)
    plain = GPT(ModelConfig.from_dict(CONFIG.to_dict() | {"ngrams": 1}))
    torch.manual_seed(0)
    network = GPT(CONFIG)
    ids = torch.randint(0, 11, (2, 8))
    torch.testing.assert_close(network(ids), plain(ids))
    network(ids).sum().backward()
    assert network.ngrams.weight.grad.abs().sum() > 0
