"""Tools on engines: every choice, parallel calls, streams, rewinds, batches, and any max_tokens."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field, model_validator
from tool_kit import ASK, DRAWN, GREEDY, TOOLS, Weather, add, check, write_tiny_chat

from pageform import (
    AsyncEngine,
    Completion,
    Engine,
    FinishReason,
    IncompleteOutput,
    ParameterError,
    ReasoningDelta,
    SamplingParams,
    SchemaError,
    ToolCall,
    ValidationFailed,
)
from pageform.clients import from_engine


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = write_tiny_chat(tmp_path_factory.mktemp("tiny"))
    with Engine(folder, threads=1, kv_cache_memory="16MB", check_invariants=True) as made:
        yield made


@pytest.mark.parametrize("model", ["smollm2", "tiny"])
@pytest.mark.parametrize("choice", ["auto", "required", "none", "Weather", add, {"name": "search"}])
def test_every_choice(request: pytest.FixtureRequest, model: str, choice: Any) -> None:
    engine: Engine = request.getfixturevalue("engine" if model == "smollm2" else "tiny")
    sampling = GREEDY if model == "smollm2" else DRAWN
    completion = engine.chat(ASK, sampling, tools=TOOLS, tool_choice=choice)
    check(completion)
    names = [call.name for call in completion.tool_calls]
    if choice == "none":
        assert not names
        assert "Weather" not in engine.tokenizer.decode(completion.prompt_token_ids)
    elif choice == "required":
        assert names
        assert completion.text == ""
    elif choice != "auto":
        assert names == [
            {"Weather": "Weather", add: "add"}.get(choice, "search") if not isinstance(choice, dict) else "search"
        ]
        assert completion.text == ""
    else:
        assert names or completion.text


def test_arguments_are_those_of_the_type(engine: Engine) -> None:
    [call] = engine.chat(ASK, GREEDY, tools=TOOLS, tool_choice=Weather).tool_calls
    assert call.arguments == Weather.model_validate_json(call.text)
    [call] = engine.chat(ASK, GREEDY, tools=[add], tool_choice="add").tool_calls
    assert add(**call.arguments) == sum(call.arguments.values()) + (1 if "b" not in call.arguments else 0)


@pytest.mark.parametrize("form", ["hermes", "mistral", "args", "llama3"])
def test_every_format(tiny: Engine, form: str) -> None:
    """Whatever the model, required calls are complete and valid, and the formats differ only in their wording."""
    sampling = SamplingParams(temperature=1.0, seed=4, max_tokens=250)
    completion = tiny.chat(ASK, sampling, tools=TOOLS, tool_choice="required", tool_format=form)
    check(completion)
    assert completion.tool_calls
    assert completion.text == ""
    marks = {"hermes": "<tool_call>", "mistral": "[TOOL_CALLS] [", "args": "[ARGS]", "llama3": '"parameters": '}
    assert marks[form] in tiny.tokenizer.decode(completion.token_ids)


def test_one_call_or_several(tiny: Engine) -> None:
    counts = {True: 0, False: 0}
    for seed in range(3):
        for parallel in (True, False):
            sampling = SamplingParams(temperature=1.0, seed=seed, max_tokens=450)
            completion = tiny.chat(ASK, sampling, tools=[add], tool_choice="required", parallel_tool_calls=parallel)
            check(completion)
            counts[parallel] = max(counts[parallel], len(completion.tool_calls))
    assert counts[False] == 1
    assert counts[True] >= 1


def test_drafts_and_batches_change_no_token(tiny: Engine) -> None:
    """Free and constrained requests, thoughts and tools in one batch; each with and without drafts."""
    choices = ["auto", "required", "Weather"]
    talks = [[{"role": "user", "content": f"ask {i} ask {i}"}] for i in range(3)]

    def run(drafts: str, choice: str) -> list[Completion]:
        sampling = [
            SamplingParams(
                temperature=i / 2,
                seed=i,
                max_tokens=170,
                drafts=drafts,
                reasoning=i == 1,
                thinking_token_budget=5 if i == 1 else None,
            )
            for i in range(3)
        ]
        return tiny.chat(talks, sampling, tools=TOOLS, tool_choice=choice, max_retries=0)

    for choice in choices:
        plain, drafted = run("none", choice), run("auto", choice)
        assert [one.token_ids for one in plain] == [one.token_ids for one in drafted]
        texts = [[[(call.name, call.text) for call in one.tool_calls] for one in run] for run in (plain, drafted)]
        assert texts[0] == texts[1]
        assert all(one.usage.details.get("reasoning_tokens", 0) <= 5 for one in plain)
    calls = [(talk, choice) for talk in talks for choice in choices]
    greedy = GREEDY.with_(max_tokens=90)
    alone = [tiny.chat(talk, greedy, tools=TOOLS, tool_choice=choice) for talk, choice in calls]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        free = [pool.submit(tiny.generate, f"free {i}", SamplingParams(seed=i, max_tokens=60)) for i in range(3)]
        typed = [pool.submit(tiny.generate, f"w {i}", response_model=Weather) for i in range(2)]
        mixed = [pool.submit(tiny.chat, t, greedy, tools=TOOLS, tool_choice=c) for t, c in calls]
        assert [one.result().token_ids for one in mixed] == [one.token_ids for one in alone]
        assert all(isinstance(one.result(), Weather) for one in typed)
        assert all(one.result().finish_reason for one in free)


@pytest.mark.parametrize("thinks", [False, True])
@pytest.mark.parametrize("form", ["hermes", "llama3"])
def test_any_max_tokens(tiny: Engine, thinks: bool, form: str) -> None:
    lengths = [*range(1, 40, 6), *range(40, 150, 11)]
    sampling = [SamplingParams(temperature=1.0, seed=n, max_tokens=n, reasoning=thinks) for n in lengths]
    options: Any = {"tools": [Weather, add], "tool_format": form, "max_retries": 0, "return_exceptions": True}
    must = tiny.chat([ASK] * len(lengths), sampling, tool_choice="required", **options)
    shortest = min(n for n, one in zip(lengths, must, strict=True) if isinstance(one, Completion))
    for length, one in zip(lengths, must, strict=True):
        if length >= shortest:
            check(one)
            assert one.tool_calls
            assert len(one.token_ids) <= length
        else:
            assert isinstance(one, IncompleteOutput)
    for length, one in zip(lengths, tiny.chat([ASK] * len(lengths), sampling, **options), strict=True):
        check(one)
        assert len(one.token_ids) <= length
        assert one.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)


def test_a_value_that_is_not_valid_is_decoded_again(engine: Engine) -> None:
    refused: list[str] = []

    def refuse(value: str) -> str:
        if value not in refused and len(refused) < 2:
            refused.append(value)
        if value in refused:
            raise ValueError("not there")
        return value

    class Forecast(BaseModel):
        days: int = Field(ge=1, le=9)
        city: Annotated[str, AfterValidator(refuse), Field(max_length=10)]
        unit: Literal["celsius", "fahrenheit"]

    completion = engine.chat(ASK, GREEDY, tools=[Forecast, add], tool_choice=Forecast)
    [call] = completion.tool_calls
    assert call.arguments.city not in refused
    assert [one.path for one in completion.rewinds] == ["city", "city"]
    assert completion.rewound_tokens > 0
    assert len(completion.attempts) == 1
    assert engine.tokenizer.decode(completion.token_ids).count("<tool_call>") == 1


def test_calls_that_are_not_valid_are_asked_for_again(tiny: Engine) -> None:
    seen: list[int] = []

    class Sum(BaseModel):
        a: int = Field(ge=0, le=9)
        b: int = Field(ge=0, le=9)

        @model_validator(mode="after")
        def check(self) -> Sum:
            seen.append(1)
            if len(seen) < 2:
                raise ValueError("a and b don't fit")
            return self

    completion = tiny.chat(ASK, DRAWN, tools=[Sum], tool_choice="required", parallel_tool_calls=False)
    assert len(completion.attempts) == 2
    prompt = tiny.tokenizer.decode(completion.prompt_token_ids)
    assert "a and b don't fit" in prompt
    assert "<tool_response>" in prompt
    assert completion.usage.completion_tokens > len(completion.token_ids)

    class Never(BaseModel):
        a: int = Field(ge=0, le=9)

        @model_validator(mode="after")
        def check(self) -> Never:
            raise ValueError("never")

    with pytest.raises(ValidationFailed) as caught:
        tiny.chat(ASK, DRAWN, tools=[Never], tool_choice="required", parallel_tool_calls=False, max_retries=1)
    assert len(caught.value.attempts) == 2
    assert "never" in caught.value.errors()[0]["msg"]


def test_a_stream_gives_calls_as_they_close(tiny: Engine) -> None:
    sampling = DRAWN.with_(reasoning=True, thinking_token_budget=5)
    seen = list(tiny.stream(ASK, sampling, tools=TOOLS, tool_choice="required"))
    *parts, completion = seen
    thoughts = "".join(part.text for part in parts if isinstance(part, ReasoningDelta))
    assert thoughts == completion.reasoning
    assert [part for part in parts if isinstance(part, ToolCall)] == completion.tool_calls
    assert "".join(part for part in parts if isinstance(part, str)) == completion.text == ""
    whole = tiny.chat(ASK, sampling, tools=TOOLS, tool_choice="required")
    assert [call.text for call in whole.tool_calls] == [call.text for call in completion.tool_calls]
    *texts, last = tiny.stream(ASK, DRAWN.with_(max_tokens=12), tools=TOOLS)
    assert "".join(text for text in texts if isinstance(text, str)) == last.text


def test_typed_and_plain_streams_tell_of_thoughts(tiny: Engine) -> None:
    sampling = DRAWN.with_(reasoning=True, thinking_token_budget=4)
    *parts, value = tiny.stream(ASK, sampling, Weather)
    assert isinstance(value, Weather)
    assert any(isinstance(part, ReasoningDelta) for part in parts)
    plain = list(tiny.stream(ASK, sampling.with_(max_tokens=12)))
    whole = tiny.chat(ASK, sampling.with_(max_tokens=12))
    assert "".join(part.text for part in plain if isinstance(part, ReasoningDelta)) == whole.reasoning
    assert "".join(part for part in plain if isinstance(part, str)) == whole.text


@pytest.mark.slow
async def test_the_async_engine_does_the_same() -> None:
    async with AsyncEngine("smollm2", threads=2, kv_cache_memory="128MB", max_model_len=1024) as engine:
        completion = await engine.chat(ASK, GREEDY, tools=TOOLS, tool_choice=Weather)
        assert isinstance(completion.tool_calls[0].arguments, Weather)
        seen = [part async for part in engine.stream(ASK, GREEDY, tools=TOOLS, tool_choice="add")]
        assert [part.name for part in seen if isinstance(part, ToolCall)] == ["add"]
        thinking = GREEDY.with_(reasoning=True, thinking_token_budget=3, max_tokens=10)
        parts = [part async for part in engine.stream(ASK, thinking)]
        assert any(isinstance(part, ReasoningDelta) for part in parts)


def test_a_conversation_goes_on_after_calls(tiny: Engine) -> None:
    first = tiny.chat(ASK, DRAWN, tools=[add], tool_choice="add")
    [call] = first.tool_calls
    talk = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": first.tool_calls},
        {"role": "tool", "tool_call_id": call.id, "content": str(add(**call.arguments))},
    ]
    for options in ({"tools": [add]}, {}):
        completion = tiny.chat(talk, DRAWN.with_(max_tokens=12), **options)
        prompt = tiny.tokenizer.decode(completion.prompt_token_ids)
        assert call.text in prompt
        assert f"<tool_response>\n{add(**call.arguments)}\n</tool_response>" in prompt


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"tools": []}, "tools"),
        ({"tools": [int]}, "tools[0]"),
        ({"tools": [add], "tool_choice": "sub"}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [add], "tool_format": "xml"}, "tool_format"),
        ({"tools": [add], "parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"tools": [add], "response_model": Weather}, "tools"),
        ({"tools": [add], "sampling": SamplingParams(regex="a")}, "regex"),
        ({"tools": [add], "sampling": SamplingParams(n=2)}, "n"),
        ({"tools": [add], "confidence": True}, "confidence"),
    ],
)
def test_what_makes_no_sense_is_told_before_any_work(tiny: Engine, options: dict[str, Any], field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        tiny.chat(ASK, **options)
    assert caught.value.field == field
    with pytest.raises(ParameterError):
        next(iter(tiny.stream(ASK, **options)))


def test_tools_are_for_conversations(tiny: Engine) -> None:
    with pytest.raises(ParameterError, match="are for conversations"):
        next(iter(tiny.stream("What?", tools=[add])))


def test_a_guarantee_covers_arguments(tiny: Engine) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}},
    }
    with pytest.raises(SchemaError, match="uniqueItems"):
        tiny.chat(ASK, tools=[{"name": "f", "parameters": schema}], guarantee="full")


def test_a_list_of_several_types_is_one_answer(tiny: Engine) -> None:
    """`Iterable[A | B]` gives instances of the classes, at once and in a stream, here and behind a client."""

    class Sum(BaseModel):
        a: int = Field(ge=0, le=99)
        b: int = Field(ge=0, le=99)

    several: Any = Annotated[Iterable[Weather | Sum], Field(min_length=2, max_length=3)]
    sampling = SamplingParams(temperature=1.0, seed=5, max_tokens=300)
    values = tiny.chat(ASK, sampling, several)
    assert 2 <= len(values) <= 3
    assert all(type(value) in (Weather, Sum) for value in values)
    assert list(tiny.stream(ASK, sampling, several))[-1] == values
    kind: Any = Iterable[Weather | Sum]
    bare = SamplingParams(temperature=0.0, max_tokens=200)
    shown = list(from_engine(tiny).create(kind, ASK, sampling=bare, stream=True))
    assert shown == tiny.chat(ASK, bare, kind)
