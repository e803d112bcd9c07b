"""Requests with tools under the hood: control tokens as tags, and going on after a suspension."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, Field
from stepped import SteppedEngine
from tool_kit import ASK, TEMPLATE, Weather, add, write_tiny_chat

from pageform import Engine, RewindOptions, SamplingParams, ToolCall
from pageform.core.errors import SchemaMismatchError
from pageform.engine.resume import Given, load
from pageform.engine.tools import ToolOptions, ToolsCall, ToolSet
from pageform.engine.typed import TypedOptions


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
        for limit in (3, 20, 50, 60, 66):
            _, ticket = begun(limit)
            assert ticket is not None
            data = engine.suspend(ticket)
            resumed = load(engine, data, Given(tools=tools))
            assert resumed.call is not None
            engine.submit(resumed.ticket)
            engine.answer(resumed.call, resumed.ticket)
            assert resumed.call.completion.token_ids == whole.completion.token_ids
            assert [one.arguments for one in resumed.call.value.tool_calls] == [
                one.arguments for one in whole.value.tool_calls
            ]
        for given in (Given(), Given(tools=[add, Pair]), Given(tools=tools, response_model=Pair)):
            with pytest.raises(SchemaMismatchError):
                load(engine, data, given)
