"""A random walk over two real engines at once: whatever happens to a request, it gets what it would get alone.

Requests of all kinds come, with priorities, deadlines and draft modes; values fail and are decoded again; requests are
aborted, preempted, suspended and resumed in the other engine; steps fail. After each operation the pools' invariants
must hold. What finishes must equal its run alone, what is ended early must be a beginning of it.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixed_specs import Spec, make_spec
from stepped import SteppedEngine
from tiny import write_tiny_llama

from pageform import Completion, FinishReason
from pageform.core.errors import BackendError
from pageform.core.log import FinishEntry, RewindEntry, TokenEntry
from pageform.engine.resume import Given, load
from pageform.engine.ticket import Ticket
from pageform.engine.typed import TypedCall

NUM_SPECS = 240
IN_FLIGHT = 28
SETTINGS: dict[str, Any] = {
    "threads": 1,
    "max_model_len": 512,
    "max_num_seqs": 20,
    "max_num_batched_tokens": 96,
    "kv_cache_memory": "77kB",
}
ALONE = {**SETTINGS, "kv_cache_memory": "1300kB", "drafts": "none", "enable_prefix_caching": False}


def seen(completion: Completion) -> list[tuple[Any, ...]]:
    """What must be the same wherever a request ran, of each sample."""
    return [
        (
            *(c.token_ids, c.text, c.finish_reason, c.stop, c.detail, c.logprobs, c.prompt_logprobs, c.rewound_tokens),
            [(one.path, one.value, str(one.error)) for one in c.rewinds],
            [shown(entry) for entry in c.log],
        )
        for c in completion.choices or [completion]
    ]


SCORES = 6
"""Where `seen` has the scores of the prompt."""


def difference(one: Any, other: Any, limit: int = 200) -> str:
    """The first parts that differ, shortened."""
    if isinstance(one, (list, tuple)) and type(one) is type(other) and len(one) == len(other):
        return next(difference(a, b) for a, b in zip(one, other, strict=True) if a != b)
    if isinstance(one, list) and isinstance(other, list):
        place = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
        one, other = one[place : place + 3], other[place : place + 3]
    return f"{str(one)[:limit]} instead of {str(other)[:limit]}"


def shown(entry: Any) -> Any:
    return (entry.id, entry.origin) if isinstance(entry, TokenEntry) else entry


@dataclass(eq=False, slots=True)
class Live:
    """A request under way: in an engine, or as bytes between two. `attempt` counts the tickets of its call."""

    spec: int
    engine: int = 0
    ticket: Ticket | None = None
    call: TypedCall[Any] | None = None
    attempt: int = 0
    data: bytes | None = None


class Faulty:
    """An executor whose steps fail as long as a guilty request is in them."""

    def __init__(self, inner: Any) -> None:
        self.guilty: set[int] = set()
        self._inner = inner

    def execute(self, plan: Any, *masks: Any) -> Any:
        if self.guilty.intersection(seq.request for seq in plan.seqs):
            raise BackendError("a fault that was asked for")
        return self._inner.execute(plan, *masks)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@dataclass(slots=True)
class Clock:
    """Each look at it takes a moment, so that a walk is the same every time."""

    now: float = 0.0

    def __call__(self) -> float:
        self.now += 0.0005
        return self.now


@dataclass
class Walk:
    """`run` makes operations and tells what happened how often. Raises AssertionError with the seed in it."""

    folder: Path
    seed: int
    draw: random.Random = field(init=False)
    specs: list[Spec] = field(init=False)
    events: Counter[str] = field(default_factory=Counter)
    clock: Clock = field(default_factory=Clock)
    engines: list[SteppedEngine] = field(default_factory=list)
    alone: SteppedEngine = field(init=False)
    live: list[Live] = field(default_factory=list)
    drawer: list[Live] = field(default_factory=list)
    expected: dict[int, list[list[tuple[Any, ...]]]] = field(default_factory=dict)
    operations: int = 0

    def run(self, operations: int) -> Counter[str]:
        self.draw = random.Random(self.seed)
        self.specs = [make_spec(self.draw, number) for number in range(NUM_SPECS)]
        try:
            self._open()
            choices = [
                *[self.submit] * 30,
                *[self.step] * 52,
                *[self.suspend] * 5,
                *[self.resume] * 5,
                *[self.abort] * 3,
                *[self.pass_time] * 3,
                self.fault,
                self.forget,
            ]
            for self.operations in range(1, operations + 1):
                self.draw.choice(choices)()
                self._check()
            self._drain()
        except Exception as error:
            raise AssertionError(f"seed {self.seed}, operation {self.operations}: {error!r}") from error
        finally:
            for engine in self.engines:
                engine.close()
        return self.events

    def _open(self) -> None:
        self.alone = SteppedEngine(self.folder, self.clock, **ALONE)
        other = {**SETTINGS, "threads": 2, "prefill_chunk": 17}
        self.engines = [SteppedEngine(self.folder, self.clock, **settings) for settings in (SETTINGS, other)]
        for engine in self.engines:
            engine.parts.core.executor = Faulty(engine.parts.core.executor)  # type: ignore[assignment]
        self.engines.append(self.alone)

    # --- operations ---------------------------------------------------------------------------------------------------

    def submit(self) -> None:
        if len(self.live) >= IN_FLIGHT:
            self.step()
            return
        draw = self.draw
        changes: dict[str, Any] = {
            "priority": draw.choice([0, 0, 0, 1, -1]),
            "drafts": draw.choice([None, None, "none", "ngram", "forced"]),
        }
        if draw.random() < 0.12:
            changes[draw.choice(["timeout", "queue_timeout", "first_token_timeout"])] = draw.uniform(0.003, 0.06)
        one = Live(draw.randrange(NUM_SPECS), draw.randrange(2))
        spec, engine = self.specs[one.spec], self.engines[one.engine]
        one.call = spec.call(engine, **changes)
        one.ticket = spec.ticket(engine, one.call, **changes)
        engine.submit(one.ticket)
        self.live.append(one)
        self.events["submitted"] += 1
        self.events["with a deadline"] += len(changes) > 2
        self.events["with a priority"] += changes["priority"] != 0

    def step(self) -> None:
        for engine in self.engines[:2]:
            self.events["steps"] += engine.step()
        self._collect()

    def abort(self) -> None:
        if self.live:
            one = self.draw.choice(self.live)
            assert one.ticket is not None
            self.engines[one.engine].abort(one.ticket.request_id)
            self._collect()

    def suspend(self) -> None:
        if not self.live:
            return
        one = self.draw.choice(self.live)
        assert one.ticket is not None
        one.data = self.engines[one.engine].suspend(one.ticket)
        self.live.remove(one)
        self.drawer.append(one)
        self.events["suspended"] += 1
        self.events["suspended after a rewind"] += any(request.num_rewound for request in one.ticket.requests)

    def resume(self) -> None:
        if not self.drawer:
            return
        one = self.drawer.pop(self.draw.randrange(len(self.drawer)))
        assert one.data is not None
        one.engine = self.draw.randrange(2)
        engine = self.engines[one.engine]
        resumed = load(engine, one.data, Given(self.specs[one.spec].type))
        one.call, one.ticket, one.data = resumed.call, resumed.ticket, None
        engine.submit(one.ticket)
        self.live.append(one)
        self.events["resumed"] += 1

    def pass_time(self) -> None:
        self.clock.now += self.draw.choice([0.001, 0.005, 0.02])

    def fault(self) -> None:
        """One request makes its steps fail from now on."""
        if self.live:
            one = self.draw.choice(self.live)
            assert one.ticket is not None
            self.engines[one.engine].parts.core.executor.guilty.add(one.ticket.requests[0].index)  # type: ignore[attr-defined]

    def forget(self) -> None:
        self.draw.choice(self.engines[:2]).reset_prefix_cache()

    # --- what must hold -----------------------------------------------------------------------------------------------

    def _check(self) -> None:
        for engine in self.engines[:2]:
            scheduler = engine.parts.core.scheduler
            scheduler.cache.check_invariants()
            assert scheduler.cache.num_free_blocks <= scheduler.cache.num_blocks

    def _collect(self) -> None:
        for one in [one for one in self.live if one.ticket is not None and one.ticket.future.done()]:
            assert one.ticket is not None
            completion = one.ticket.future.result()
            self._compare(one, completion)
            if not self._goes_on(one):
                self.live.remove(one)

    def _compare(self, one: Live, completion: Completion) -> None:
        expected = self._alone(one.spec)[one.attempt]
        for got, wanted in zip(seen(completion), expected, strict=True):
            if got[SCORES] in [one[SCORES] for one in expected]:  # whoever leads has the scores of the prompt
                wanted = (*wanted[:SCORES], got[SCORES], *wanted[SCORES + 1 :])
            reason = got[2]
            self.events[f"finished: {reason}"] += 1
            self.events["rewinds"] += sum(isinstance(entry, RewindEntry) for entry in got[-1])
            if reason in (FinishReason.ABORT, FinishReason.TIMEOUT, FinishReason.ERROR):
                log = got[-1][:-1]
                assert isinstance(got[-1][-1], FinishEntry)
                assert log == wanted[-1][: len(log)], f"request {one.spec} is no beginning of its run alone"
                if reason is FinishReason.ERROR and "asked for" not in str(got[4]):
                    raise AssertionError(f"request {one.spec} ended with an error") from completion.error
                self.events["beginnings equal to those of runs alone"] += 1
            else:
                assert got == wanted, f"request {one.spec} differs from its run alone: {difference(got, wanted)}"
                self.events["answers equal to those of runs alone"] += 1

    def _goes_on(self, one: Live) -> bool:
        """Whether an invalid answer is asked for again."""
        if one.call is None:
            return False
        assert one.ticket is not None
        try:
            if one.call.settle(one.ticket):
                return False
        except Exception:
            return False
        one.attempt += 1
        one.ticket = one.call.next_ticket()
        self.engines[one.engine].submit(one.ticket)
        self.events["asked again"] += 1
        return True

    def _alone(self, number: int) -> list[list[tuple[Any, ...]]]:
        """What each attempt of a request gives with the engine to itself."""
        if number not in self.expected:
            spec = self.specs[number]
            call = spec.call(self.alone)
            ticket, outcomes = spec.ticket(self.alone, call), []
            while True:
                self.alone.submit(ticket)
                self.alone.finish(ticket)
                outcomes.append(seen(ticket.future.result()))
                try:
                    if call is None or call.settle(ticket):
                        break
                except Exception:
                    break
                ticket = call.next_ticket()
            self.expected[number] = outcomes
        return self.expected[number]

    def _drain(self) -> None:
        while self.drawer:
            self.resume()
        for _ in range(100_000):
            if not self.live:
                break
            self.step()
            self._check()
        assert not self.live, "requests are left, and nothing can be computed"
        for engine in self.engines[:2]:
            stats = engine.stats()
            assert stats.kv_blocks_used == 0
            assert stats.requests_running == stats.requests_waiting == 0
            self.events["preemptions"] += stats.preemptions
            self.events["step faults"] += stats.step_faults
            self.events["tokens computed"] += stats.computed_tokens
            self.events.update({f"drafted: {kind}": count for kind, count in stats.drafted_tokens.items()})
            self.events.update({f"accepted: {kind}": count for kind, count in stats.accepted_tokens.items()})


MUST_HAPPEN = (
    *(f"finished: {reason}" for reason in ("stop", "length", "repetition", "abort", "timeout", "error", "validation")),
    *("rewinds", "suspended", "suspended after a rewind", "resumed", "asked again", "preemptions", "step faults"),
    *("with a deadline", "with a priority"),
    *("drafted: forced", "drafted: ngram", "accepted: forced", "accepted: ngram"),
)
"""A long walk proves little without having met these."""


def write_model(folder: Path) -> Path:
    return write_tiny_llama(folder, layers=1, seed=3)
