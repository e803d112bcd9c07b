"""The KV cache as the scheduler sees it: tables of requests, prefix hits, transactions, statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .. import _native
from ..core.errors import ParameterError
from ..core.request import CacheKey, Request
from .keys import KeyTable


@dataclass(frozen=True, slots=True)
class CacheStats:
    """`queries` and `hits` count prompt tokens looked up and found since the start."""

    num_blocks: int
    num_free_blocks: int
    block_size: int
    queries: int
    hits: int

    @property
    def usage(self) -> float:
        """Share of the blocks that requests hold, from 0 to 1."""
        return 1.0 - self.num_free_blocks / self.num_blocks


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """`num_tokens` of a request are in the cache; taking them takes `num_free_blocks` from the free list."""

    num_tokens: int
    num_free_blocks: int


class KVCacheManager:
    """Block tables of requests over the native pool.

    A request has a table from `open` to `release`. Block lists handed out by `blocks` hold until the request's table
    changes next: one that grows does so in place. `base_keys` is what all content depends on, such as
    ("kv_dtype", "f16"). With `prefix_caching` off nothing is ever read from the cache of earlier requests.
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        *,
        base_keys: Iterable[CacheKey] = (),
        prefix_caching: bool = True,
    ) -> None:
        for name, value in (("num_blocks", num_blocks), ("block_size", block_size)):
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
                raise ParameterError(name, value, "must be a positive integer", "Give the KV cache room for a block.")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        self._base_keys = frozenset(base_keys)
        self._keys = KeyTable()
        self._pool = _native.BlockPool(num_blocks, block_size)
        self._lists: dict[int, list[int]] = {}  # block lists of tables, as far as they have been asked for
        self._queries = self._hits = 0
        self._pending_queries = self._pending_hits = 0

    # --- capacity ---------------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """Tokens that the whole pool can hold."""
        return self.num_blocks * self.block_size

    @property
    def num_free_blocks(self) -> int:
        """Blocks that no request holds, cached ones included."""
        return self._pool.num_free

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    # --- tables -----------------------------------------------------------------------------------------------------

    def match_prefix(self, request: Request) -> PrefixMatch:
        """What the cache has of the request's tokens now. Changes nothing."""
        if not self._may_read(request):
            return PrefixMatch(0, 0)
        tokens = request.tokens(0, request.num_tokens)
        return PrefixMatch(*self._pool.match(tokens, [self._key(request)]))

    def open(self, request: Request) -> int:
        """Gives the request a table with what the cache has of its tokens; returns how many tokens that is.

        The last token is never among them: what it predicts has to be computed. If all are cached, the last block is
        held but cut, and `ensure` makes a copy of it where others hold it as well; where it is computed by the step
        that is being planned, there is nothing to copy yet, and it is computed again.
        """
        index = request.index
        self._pool.open(index, [self._key(request)])
        found = 0
        if self._may_read(request):
            found = self._pool.adopt(index, request.tokens(0, request.num_tokens))
            if found == request.num_tokens:
                found -= self.block_size if self._pool.pending(self._pool.blocks(index)[-1]) else 1
                self._pool.truncate(index, found)
        if not request.num_preemptions:  # coming back isn't a new prompt
            self._pending_queries += request.num_prompt_tokens
            self._pending_hits += found
        return found

    def ensure(self, request: Request, num_tokens: int) -> bool:
        """Makes room to write up to `num_tokens` tokens; False, and nothing changed, if the pool lacks blocks."""
        added = self._pool.allocate(request.index, num_tokens)
        if added:
            self._grow(request.index, added)
        return added is not None

    def _grow(self, index: int, added: int) -> None:
        """The table has got `added` blocks: at its end, or in place of shared ones."""
        ids = self._lists.get(index)
        if ids is not None:
            more = self._pool.blocks(index, len(ids))
            if len(more) == added:
                ids += more
            else:
                del self._lists[index]

    def blocks(self, request: Request) -> list[int]:
        """Ids of the request's blocks in order: the same list, longer, as the table grows. Not to be changed."""
        ids = self._lists.get(request.index)
        if ids is None:
            ids = self._lists[request.index] = self._pool.blocks(request.index)
        return ids

    def commit(self, request: Request, tokens: Sequence[int]) -> None:
        """Tokens that follow the committed ones were computed, or will be by the step under way: full blocks
        may be shared from now on."""
        self._pool.commit(request.index, tokens)

    def fork(self, source: Request, request: Request) -> None:
        """Gives `request` a table that shares everything `source` has committed. Takes no block."""
        self._pool.fork(source.index, request.index)

    def truncate(self, request: Request, num_tokens: int) -> None:
        """Forgets committed tokens from `num_tokens` on. Takes no block."""
        self._pool.truncate(request.index, num_tokens)
        self._lists.pop(request.index, None)

    def trim(self, request: Request) -> None:
        """Gives back blocks that hold no committed token: room that was made for nothing."""
        committed = self._pool.num_committed(request.index)
        if len(self.blocks(request)) > self.blocks_for(committed):
            self.truncate(request, committed)

    def release(self, request: Request, *, forget: bool = False) -> None:
        """Gives the request's blocks back; does nothing if it has no table.

        Their content stays findable until they are reused, or with `forget` (it may be garbage) not even that.
        """
        if self._pool.contains(request.index):
            self._pool.release(request.index, forget)
            self._lists.pop(request.index, None)

    def num_committed(self, request: Request) -> int:
        """Tokens of the request that are computed and in its table; 0 without a table."""
        return self._pool.num_committed(request.index) if self._pool.contains(request.index) else 0

    def num_unshared(self, request: Request) -> int:
        """Blocks that releasing the request would free."""
        return self._pool.num_unshared(request.index)

    # --- steps ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Starts a transaction: everything up to `rollback` is taken back by it, everything up to `keep` stays."""
        self._pool.begin()

    def keep(self) -> None:
        """Ends the transaction under way; what it did stays."""
        self._pool.commit_transaction()
        self._queries += self._pending_queries
        self._hits += self._pending_hits
        self._pending_queries = self._pending_hits = 0

    def rollback(self) -> None:
        """Ends the transaction under way and takes back what it did.

        Blocks that a failed step may have written are trusted no more, so a request that had given blocks back may have
        fewer committed tokens than before.
        """
        self._pool.rollback()
        self._lists.clear()
        self._pending_queries = self._pending_hits = 0

    def take_copies(self) -> list[tuple[int, int]]:
        """Pairs (source, destination) of blocks to copy, in this order, before the step writes anything."""
        return self._pool.take_copies()

    def reset_prefix_cache(self) -> None:
        """Forgets all cached content. Running requests keep theirs."""
        self._pool.clear_index()

    # --- looking in -------------------------------------------------------------------------------------------------

    def stats(self) -> CacheStats:
        return CacheStats(self.num_blocks, self.num_free_blocks, self.block_size, self._queries, self._hits)

    def check_invariants(self) -> None:
        """Raises AssertionError naming what is wrong. Costs time in proportion to the pool."""
        wrong = self._pool.check_invariants()
        if wrong:
            raise AssertionError(f"block pool: {wrong}")

    def _may_read(self, request: Request) -> bool:
        # Prompt logprobs need the hidden states of positions that a hit would skip.
        return self.prefix_caching and not request.wants_prompt_logprobs

    def _key(self, request: Request) -> int:
        return self._keys.intern(self._base_keys.union(request.cache_keys))
