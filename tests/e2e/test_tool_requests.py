"""Requests with tools under the hood: control tokens as tags, going on after a suspension or preemption."""

from __future__ import annotations

import concurrent.futures
import random
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, Field
from stepped import SteppedEngine
from tool_kit import ASK, TEMPLATE, TOOLS, Weather, add, check, write_tiny_chat

from pageform import Engine, IncompleteOutput, RewindOptions, SamplingParams, ToolCall
from pageform.core.errors import SchemaMismatchError
from pageform.engine.options import ToolOptions, TypedOptions
from pageform.engine.resume import Given, load
from pageform.engine.tools import ToolsCall, ToolSet
from pageform.text.tool_formats import FORMATS


def test_tags_may_be_control_tokens(tmp_path: Path) -> None:
    """As in Mistral's models: no text can spell them, and they are no part of what the caller sees."""
    shows = "{% if tools %}{{ tools | tojson }}[TOOL_CALLS] [{% endif %}[THINK]" + TEMPLATE
    folder = write_tiny_chat(tmp_path, shows)
    file = folder / "tokenizer.json"
    renamed = file.read_text().replace('"<unk>"', '"[TOOL_CALLS]"').replace('"<s>"', '"[/THINK]"')
    file.write_text(renamed)
    with Engine(folder, threads=1, kv_cache_memory="16MB", max_model_len=512, check_invariants=True) as tiny:
        for seed in range(3):
            sampling = SamplingParams(seed=seed, max_tokens=90, reasoning=True, thinking_token_budget=7)
            completion = tiny.chat(ASK, sampling, tools=[add], tool_choice="required", parallel_tool_calls=False)
            [call] = completion.tool_calls
            assert add(**call.arguments)
            assert completion.text == ""
            assert completion.usage.details["reasoning_tokens"] <= 7
            assert [completion.token_ids.count(token) for token in (0, 1)] == [1, 1]
            assert "[" not in completion.reasoning or "[/THINK]" not in completion.reasoning
            free = tiny.chat(
                ASK, sampling.with_(reasoning=None, thinking_token_budget=None, max_tokens=40), tools=[add]
            )
            assert "[TOOL_CALLS]" not in free.text
            value = tiny.chat(ASK, sampling, Weather)
            assert isinstance(value, Weather)


@pytest.mark.parametrize("thinks", [False, True])
def test_suspended_calls_go_on(tmp_path: Path, thinks: bool) -> None:
    """Wherever a request with tools is stopped, it goes on with the same tokens, rewinds included."""
    folder = write_tiny_chat(tmp_path)

    def seventh(value: int) -> int:
        if value % 7:
            raise ValueError("no multiple of seven")
        return value

    class Pair(BaseModel):
        a: Annotated[int, Field(ge=0, le=99), AfterValidator(seventh)]
        b: Annotated[int, Field(ge=0, le=99), AfterValidator(seventh)]

    tools: Any = [Pair, add]
    options = TypedOptions(rewind=RewindOptions(tries=90))
    sampling = SamplingParams(seed=1, max_tokens=200, reasoning=thinks, thinking_token_budget=5 if thinks else None)
    talk = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "tool_calls": [ToolCall("a" * 9, "add", {}, "{}")]},
        {"role": "tool", "content": "1"},
    ]
    with SteppedEngine(folder, threads=1, kv_cache_memory="16MB", drafts="none") as engine:

        def begun(limit: int | None) -> tuple[ToolsCall, Any]:
            call = ToolsCall(engine, ToolSet(engine, ToolOptions(tools, Pair)), talk, sampling, options)
            ticket = call.next_ticket()
            engine.submit(ticket)
            return call, engine.answer(call, ticket, limit)

        whole, _ = begun(None)
        assert whole.completion.rewinds
        early = b""
        for limit in (3, 20, 50, 60, 66):
            _, ticket = begun(limit)
            assert ticket is not None
            data = engine.suspend(ticket)
            early = data if limit == 3 else early
            resumed = load(engine, data, Given(tools=tools))
            assert resumed.call is not None
            engine.submit(resumed.ticket)
            engine.answer(resumed.call, resumed.ticket)
            assert resumed.call.completion.token_ids == whole.completion.token_ids
            assert [one.arguments for one in resumed.call.value.tool_calls] == [
                one.arguments for one in whole.value.tool_calls
            ]
        told: list[Any] = []
        resumed = load(engine, early, Given(tools=tools), lambda text, _: told.append(text), told.append)
        assert resumed.call is not None
        assert resumed.stream is not None
        engine.submit(resumed.ticket)
        engine.answer(resumed.call, resumed.ticket)
        shown = [resumed.stream.see(change) for change in told if change]
        assert shown[-1] == resumed.call.value.tool_calls[-1]
        for given in (Given(), Given(tools=[add, Pair]), Given(tools=tools, response_model=Pair)):
            with pytest.raises(SchemaMismatchError):
                load(engine, data, given)


def mixed(engine: Engine, number: int) -> Any:
    """A request of some sort; its tokens, or the name of what it ended with."""
    rng = random.Random(number)
    thinks = rng.random() < 0.5
    sampling = SamplingParams(
        temperature=rng.choice([0.0, 0.7, 1.3]),
        seed=number,
        max_tokens=rng.choice([3, 30, 90, 200]),
        reasoning=thinks or None,
        thinking_token_budget=rng.choice([0, 3, 20]) if thinks and rng.random() < 0.7 else None,
        drafts=rng.choice(["none", "auto", "forced", "ngram"]),
        forced=rng.choice(["verify", "accept"]),
        presence_penalty=rng.choice([0.0, 0.5]),
    )
    kind = rng.choice(["free", "typed", "auto", "required", "add"])
    options: Any = {"parallel_tool_calls": rng.random() < 0.5, "tool_format": rng.choice([*FORMATS]), "max_retries": 0}
    try:
        if kind == "free":
            completion = engine.generate(f"free {number}", sampling)
        elif kind == "typed":
            _, completion = engine.generate_with_completion(f"w {number}", Weather, sampling, max_retries=0)
        else:
            talk = [{"role": "user", "content": f"ask {number % 7}"}]
            completion = engine.chat(talk, sampling, tools=TOOLS, tool_choice=kind, **options)
            check(completion)
    except IncompleteOutput:
        return "incomplete"
    assert sampling.max_tokens is not None
    assert len(completion.token_ids) <= sampling.max_tokens
    if sampling.thinking_token_budget is not None:
        assert completion.usage.details["reasoning_tokens"] <= sampling.thinking_token_budget
    return completion.token_ids


@pytest.mark.parametrize("count", [16, pytest.param(120, marks=pytest.mark.slow)])
def test_a_mixture_under_preemption_equals_each_request_alone(tmp_path: Path, count: int) -> None:
    folder = write_tiny_chat(tmp_path)
    settings: dict[str, Any] = {"threads": 1, "max_model_len": 2600, "check_invariants": True}
    with Engine(folder, kv_cache_memory="16MB", **settings) as engine:
        alone = [mixed(engine, number) for number in range(count)]
    assert alone.count("incomplete") < count / 2
    with (
        Engine(folder, kv_cache_memory=170 * 4352, max_num_seqs=24, **settings) as engine,
        concurrent.futures.ThreadPoolExecutor(24) as pool,
    ):
        assert list(pool.map(lambda number: mixed(engine, number), range(count))) == alone
        stats = engine.stats()
    assert stats.step_faults == 0
    assert count < 100 or stats.preemptions > 0
