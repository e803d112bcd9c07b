"""A device without a model: every token depends on the cache contents of all positions before it.

Each cache slot holds a number chained from the slot of the position before, as keys and values depend on all tokens
up to theirs. So a lost, stale, misplaced or wrongly shared block changes the tokens, and comparing a request's output
with `expected_tokens` (computed from prompt and stream alone) checks the whole path.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from pageform.cache import KVCacheManager
from pageform.core.completion import FinishReason
from pageform.core.drafts import Draft, DraftKind
from pageform.core.params import SamplingParams
from pageform.core.plan import RowPlan, RowResult, RowSampling, SeqPlan, StepPlan, StepResult
from pageform.core.request import Request
from pageform.core.states import RequestState
from pageform.scheduler import Scheduler, SchedulerConfig

VOCAB = 50
STOP_TOKEN = 7
_MASK = (1 << 61) - 1


def chain(state: int, token: int) -> int:
    return (state * 6364136223846793005 + token + 1) & _MASK


def sample(state: int, stream: int, position: int) -> int:
    return chain(chain(state, 1000 + stream), 2000 + position) % 1009 % VOCAB


def root(salt: str | None) -> int:
    return 17 if salt is None else chain(17, sum(salt.encode()))


def forced_after(token: int) -> list[int]:
    """What follows a sampled token by force, for requests that want it so."""
    return [10 + token, 20 + token] if token % 10 == 3 and token < 20 else []


def instead_of(token: int) -> int:
    """What such requests append where `token` was sampled."""
    return 31 if token == 29 else token


def expected_tokens(prompt: list[int], salt: str | None, stream: int, limit: int, forcing: bool = False) -> list[int]:
    """What a request must produce, up to `limit` tokens or the stop token."""
    state = root(salt)
    for token in prompt:
        state = chain(state, token)
    output: list[int] = []
    while len(output) < limit:
        token = sample(state, stream, len(output))
        token = instead_of(token) if forcing else token
        output.append(token)
        if token == STOP_TOKEN:
            break
        state = chain(state, token)
        for forced in forced_after(token) if forcing else []:
            output.append(forced)
            state = chain(state, forced)
    return output[:limit]


class FakeDevice:
    """Executes plans over `num_blocks * block_size` slots, its sequences in random order.

    But one that reads what another writes in the same step comes after it: in a real model all go through the layers
    side by side, so that each finds the keys and values of its own layer.
    """

    def __init__(self, num_blocks: int, block_size: int, seed: int = 0) -> None:
        self.block_size = block_size
        self.slots = [[0] * block_size for _ in range(num_blocks)]
        self.salts: dict[int, str | None] = {}
        self.random = random.Random(seed)

    def execute(self, plan: StepPlan) -> StepResult:
        for source, destination in plan.copies:
            self.slots[destination] = list(self.slots[source])
        order = list(range(len(plan.seqs)))
        self.random.shuffle(order)
        rows: dict[int, list[RowResult]] = {}
        writers = {block: i for i, seq in enumerate(plan.seqs) for block in self._written(seq)}
        written: set[int] = set()

        def write(i: int) -> None:
            if i in written:
                return
            written.add(i)
            for block in plan.seqs[i].blocks[: plan.seqs[i].start // self.block_size]:
                write(writers.get(block, i))
            self._write(plan.seqs[i])

        for i in order:
            write(i)
        for i in order:  # after all writes: what one sequence wrote must not have spoiled another
            rows[i] = [self._row(plan.seqs[i], row) for row in plan.seqs[i].rows]
        return StepResult(plan.step_id, [row for i in range(len(plan.seqs)) for row in rows[i]])

    def spoil(self, plan: StepPlan) -> None:
        """A step that fails, having written garbage wherever it was allowed to write."""
        for _, destination in plan.copies:
            self.slots[destination] = [-1] * self.block_size
        for seq in plan.seqs:
            for position in range(seq.start, seq.start + len(seq.tokens)):
                self.slots[seq.blocks[position // self.block_size]][position % self.block_size] = -1

    def _written(self, seq: SeqPlan) -> list[int]:
        end = seq.start + len(seq.tokens)
        return seq.blocks[seq.start // self.block_size : -(-end // self.block_size)]

    def _state(self, seq: SeqPlan, position: int) -> int:
        if position < 0:
            return root(self.salts[seq.request])
        return self.slots[seq.blocks[position // self.block_size]][position % self.block_size]

    def _write(self, seq: SeqPlan) -> None:
        for position, token in enumerate(seq.tokens, seq.start):
            state = chain(self._state(seq, position - 1), token)
            self.slots[seq.blocks[position // self.block_size]][position % self.block_size] = state

    def _row(self, seq: SeqPlan, row: RowPlan) -> RowResult:
        state = self._state(seq, seq.start + row.offset)
        if row.target >= 0:
            return RowResult(row.request, row.target, logprob=float(chain(state, row.target) % 1000))
        return RowResult(row.request, sample(state, row.stream, row.position))


@dataclass
class RecordingSink:
    """Checks the order of what it hears and stops at STOP_TOKEN; raises at output length `raise_at`."""

    request: Request | None = None
    raise_at: int = -1
    tokens: list[int] = field(default_factory=list)
    prompt_logprobs: dict[int, float] = field(default_factory=dict)
    ended: int = 0
    was_sampled: bool = True

    def token(self, token_id: int, row: RowResult | None) -> FinishReason | None:
        assert self.request is not None
        assert not self.ended
        assert self.request.output_ids[-1] == token_id
        assert row is None or token_id == row.token
        self.was_sampled = row is not None
        self.tokens.append(token_id)
        if len(self.request.output_ids) == self.raise_at:
            raise RuntimeError("a sink that fails")
        return FinishReason.STOP if token_id == STOP_TOKEN else None

    def choose(self, token_id: int) -> int:
        assert self.request is not None
        return instead_of(token_id) if self.request.params.forced == "accept" else token_id

    def forced(self) -> list[int]:
        assert self.request is not None
        if self.request.params.forced != "accept" or not self.was_sampled:
            return []
        return forced_after(self.request.output_ids[-1])

    def prompt_logprob(self, position: int, row: RowResult) -> None:
        assert position == len(self.prompt_logprobs) + 1, "prompt logprobs come in order, each once"
        self.prompt_logprobs[position] = row.logprob

    def finished(self, request: Request) -> None:
        assert request is self.request
        self.ended += 1


@dataclass
class OracleDrafter:
    """Guesses what will be sampled, wrong now and then, and checks what it is told of that."""

    random: random.Random
    right: float = 0.8
    proposed: int = 0
    accepted: int = 0

    def propose(self, request: Request, limit: int, worth: float) -> list[Draft]:
        assert limit >= 1
        assert request.num_computed <= request.num_tokens
        params = request.params
        expected = expected_tokens(
            list(request.prompt_ids), params.cache_salt, request.stream, 10_000, params.forced == "accept"
        )
        known = len(request.output_ids)
        if request.output_ids != expected[:known]:
            return []
        return [
            Draft(
                token if self.random.random() < self.right else (token + 1) % VOCAB,
                self.random.choice([1.0, 0.9, 0.5]),
                self.random.choice(list(DraftKind)),
            )
            for token in expected[known : known + self.random.randint(0, limit)]
        ]

    def settle(self, drafts: Sequence[Draft], accepted: int, missed: bool) -> None:
        assert 0 <= accepted <= len(drafts)
        assert not (missed and accepted == len(drafts))
        self.proposed += len(drafts)
        self.accepted += accepted


def make_requests(
    index: int, prompt: list[int], params: SamplingParams, arrival: float, raise_at: int = -1
) -> list[Request]:
    """The `params.n` samples of a prompt, the leader first, with indices from `index` on."""
    requests = []
    for number in range(params.n):
        sink = RecordingSink(raise_at=raise_at if number == 0 else -1)
        request = Request(
            index=index + number,
            request_id=f"r{index}",
            prompt_ids=prompt,
            params=params,
            sampling=RowSampling(),
            max_tokens=params.max_tokens or 10_000,
            sink=sink,
            arrival=arrival,
            cache_keys=() if params.cache_salt is None else (("salt", params.cache_salt),),
            sample=number,
        )
        sink.request = request
        requests.append(request)
    requests[0].siblings = requests[1:]
    return requests


def make_request(index: int, prompt: list[int], arrival: float = 0.0, **params: object) -> Request:
    return make_requests(index, prompt, SamplingParams(**params), arrival)[0]  # type: ignore[arg-type]


class Bench:
    """Scheduler, cache and device together."""

    def __init__(self, scheduler: Scheduler, cache: KVCacheManager) -> None:
        self.scheduler, self.cache = scheduler, cache
        self.device = FakeDevice(cache.num_blocks, cache.block_size)
        self.now = 0.0

    def add(self, request: Request) -> Request:
        for each in (request, *request.siblings):
            self.device.salts[each.index] = each.params.cache_salt
        self.scheduler.add(request, self.now)
        return request

    def step(self) -> StepPlan | None:
        plan = self.scheduler.plan(self.now)
        if plan is not None:
            self.scheduler.apply(plan, self.device.execute(plan), self.now)
        self.cache.check_invariants()
        return plan

    def run(self, max_steps: int = 10_000) -> int:
        """Steps until nothing is left; the number of steps."""
        for count in range(max_steps):
            if self.step() is None:
                assert not self.scheduler.has_requests, "requests are left and nothing can be computed"
                return count
        raise AssertionError(f"not done after {max_steps} steps")


def check_output(request: Request) -> None:
    """The output is what it must be: all of it for a request that ended by itself, else the beginning."""
    assert not isinstance(request.error, AssertionError), request.error
    params = request.params
    expected = expected_tokens(
        list(request.prompt_ids), params.cache_salt, request.stream, request.max_tokens, params.forced == "accept"
    )
    if request.finish_reason in (FinishReason.STOP, FinishReason.LENGTH) and request.detail in (None, "max_tokens"):
        assert request.output_ids == expected
    else:
        assert request.output_ids == expected[: len(request.output_ids)]
    assert request.state is not RequestState.FINISHED or request.sink.ended == 1  # type: ignore[attr-defined]


def bench(num_blocks: int = 64, block_size: int = 4, prefix_caching: bool = True, **config: object) -> Bench:
    defaults: dict[str, object] = {
        "max_num_seqs": 8,
        "max_num_batched_tokens": 32,
        "max_model_len": 256,
        "watermark": 0.0,
    }
    cache = KVCacheManager(num_blocks, block_size, prefix_caching=prefix_caching)
    return Bench(Scheduler(SchedulerConfig(**(defaults | config)), cache), cache)  # type: ignore[arg-type]


def prompt(length: int, first: int = 10) -> list[int]:
    return [first + i % 30 for i in range(length)]


def lasting(length: int, tokens: int, index: int = 0) -> list[int]:
    """The `index`-th of the prompts of that length whose answers don't stop before `tokens` tokens."""
    found = (
        p for first in range(10, 500) if len(expected_tokens(p := prompt(length, first), None, 0, tokens)) == tokens
    )
    return next(itertools.islice(found, index, None))


def sizes(b: Bench) -> dict[int, int]:
    """Tokens of each request in the next step, which is then executed."""
    plan = b.step()
    return {} if plan is None else {seq.request: len(seq.tokens) for seq in plan.seqs}
