"""The cache manager: keys, block lists, transactions, statistics; and that the native pool never crashes on misuse."""

from __future__ import annotations

import pytest

from pageform._native import BlockPool
from pageform.cache import KVCacheManager
from pageform.cache.keys import KeyTable
from pageform.core.errors import ParameterError
from pageform.core.params import SamplingParams
from pageform.core.plan import RowSampling
from pageform.core.request import CacheKey, Request


def request(index: int, prompt: list[int], *keys: CacheKey) -> Request:
    return Request(
        index=index,
        request_id=str(index),
        prompt_ids=prompt,
        params=SamplingParams(),
        sampling=RowSampling(),
        max_tokens=10,
        sink=None,  # type: ignore[arg-type]
        arrival=0.0,
        cache_keys=keys,
    )


def compute(cache: KVCacheManager, r: Request) -> int:
    """Takes a request through its prompt; the number of cached tokens."""
    found = cache.open(r)
    assert cache.ensure(r, r.num_tokens)
    cache.commit(r, r.tokens(found, r.num_tokens))
    return found


VARIANTS: list[tuple[CacheKey, ...]] = [
    (),
    (("salt", "a"),),
    (("salt", "b"),),
    (("lora", "a", 1),),
    (("lora", "a", 2),),
    (("lora", "a", 1), ("salt", "a")),
    (("weights", 1),),
    (("mm", b"sha", 0),),
    (("mm", b"sha", 4),),
]


def test_every_key_makes_content_of_its_own() -> None:
    cache = KVCacheManager(64, 4)
    prompt = list(range(12))
    for index, keys in enumerate(VARIANTS):
        assert compute(cache, request(index, prompt, *keys)) == 0, f"{keys} met content of other keys"
    for index, keys in enumerate(VARIANTS):
        assert compute(cache, request(100 + index, prompt, *reversed(keys))) == 11, f"{keys} did not find its own"


def test_base_keys_apply_to_all() -> None:
    one = KVCacheManager(16, 4, base_keys=[("kv_dtype", "f16")])
    compute(one, request(1, list(range(8))))
    assert one.match_prefix(request(2, list(range(8)))).num_tokens == 8


def test_the_key_table_is_bounded_and_never_reuses_a_number() -> None:
    table = KeyTable(max_keys=3)
    numbers = [table.intern(frozenset({("salt", str(i))})) for i in range(10)]
    assert len(set(numbers)) == 10
    assert len(table) == 3
    assert table.intern(frozenset({("salt", "9")})) == numbers[9]
    assert table.intern(frozenset({("salt", "0")})) not in numbers


def test_a_block_list_grows_in_place() -> None:
    cache = KVCacheManager(16, 4)
    r = request(1, list(range(8)))
    compute(cache, r)
    first = cache.blocks(r)
    assert cache.blocks(r) is first, "no copy while nothing changes"
    assert cache.ensure(r, 8)
    assert cache.blocks(r) is first
    kept = list(first)
    assert cache.ensure(r, 9)
    assert cache.blocks(r) is first
    assert first[:2] == kept
    assert len(first) == 3
    cache.truncate(r, 3)
    assert cache.blocks(r) == kept[:1]


def test_the_list_of_a_table_whose_block_was_copied_is_another() -> None:
    cache = KVCacheManager(16, 4)
    r, other = request(1, list(range(6))), request(2, list(range(6)))
    compute(cache, r)
    cache.fork(r, other)
    shared = list(cache.blocks(other))
    assert cache.ensure(other, 9)
    mine = cache.blocks(other)
    assert (mine[0], len(mine)) == (shared[0], 3)
    assert cache.take_copies() == [(shared[1], mine[1])]


def test_a_prompt_that_the_step_at_hand_computes_is_shared_but_for_its_last_block() -> None:
    cache = KVCacheManager(16, 4)
    first, second, third = (request(i, list(range(8))) for i in (1, 2, 3))
    cache.begin()
    compute(cache, first)
    assert cache.open(second) == 4
    assert cache.ensure(second, 8)
    assert cache.take_copies() == [], "there is nothing to copy yet"
    assert cache.blocks(second)[0] == cache.blocks(first)[0]
    cache.keep()
    cache.check_invariants()
    assert cache.open(third) == 7


def test_rollback_takes_lists_and_statistics_back() -> None:
    cache = KVCacheManager(8, 4)
    r = request(1, list(range(8)))
    compute(cache, r)
    before = list(cache.blocks(r))
    stats = cache.stats()
    cache.begin()
    assert cache.ensure(r, 20)
    assert len(cache.blocks(r)) == 5
    cache.open(request(2, list(range(8))))
    cache.rollback()
    assert cache.blocks(r) == before
    assert cache.stats() == stats
    assert cache.num_committed(request(2, [1])) == 0
    cache.check_invariants()


def test_statistics_count_prompts_once() -> None:
    cache = KVCacheManager(8, 4)
    r = request(1, list(range(8)))
    cache.begin()
    compute(cache, r)
    cache.keep()
    cache.release(r)
    cache.release(r)
    r.num_preemptions = 1
    cache.begin()
    assert cache.open(r) == 7
    cache.keep()
    assert (cache.stats().queries, cache.stats().hits) == (8, 0)
    assert cache.stats().usage == 2 / 8


@pytest.mark.parametrize(("blocks", "size"), [(0, 4), (4, 0), (True, 4), (2**31, 4), (4.0, 4)])
def test_bad_sizes_are_named(blocks: int, size: int) -> None:
    with pytest.raises(ParameterError):
        KVCacheManager(blocks, size)


def test_the_native_pool_answers_misuse_with_errors() -> None:
    pool = BlockPool(4, 4)
    pool.open(1)
    for call, message in [
        (lambda: pool.open(1), "table 1 is already open"),
        (lambda: pool.release(9), "table 9 is not open"),
        (lambda: pool.blocks(-5), "table -5 is not open"),
        (lambda: pool.commit(1, [1, 2]), "no blocks for 2 tokens"),
        (lambda: pool.truncate(1, 1), "can't be cut to 1"),
        (lambda: pool.truncate(1, -1), "can't be cut to -1"),
        (lambda: pool.allocate(1, -1), "can't be made ready for -1"),
        (lambda: pool.fork(1, 1), "already open"),
        (lambda: pool.adopt(1, [-1]), "token id -1 at index 0 is out of range"),
        (lambda: pool.ref(4), "there is no block 4"),
        (lambda: pool.lease([0], 1.0), "holds nothing to lease"),
        (pool.commit_transaction, "no transaction"),
        (lambda: BlockPool(-1, 4), "num_blocks is -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(OverflowError):
        pool.adopt(1, [2**80])
    with pytest.raises(TypeError):
        pool.commit(1, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        pool.commit(1, ["a"])  # type: ignore[list-item]
    assert pool.allocate(1, 10**15) is None
    assert pool.check_invariants() == ""
