"""`guarantee="full"`: refused before any work where the grammar holds less than validation, by every verb."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, Field
from tiny import write_tiny_llama

from pageform import AsyncEngine, Engine, ParameterError, SamplingParams, SchemaError, forms
from pageform.clients.engine_client import from_engine


class Whole(BaseModel):
    count: Annotated[int, Field(ge=1, le=99)]
    kind: Annotated[str, Field(max_length=4)]


class Checked(BaseModel):
    count: Annotated[int, AfterValidator(lambda value: value)]


CHAT = [{"role": "user", "content": "Hi."}]
UNIQUE = {"type": "array", "items": {"enum": [1, 2]}, "uniqueItems": True}
GREEDY = SamplingParams(temperature=0, max_tokens=60)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"), seed=3)


@pytest.fixture(scope="module")
def tiny(model: Path) -> Iterator[Engine]:
    with Engine(model, threads=1, max_model_len=512, kv_cache_memory="16MB") as engine:
        yield engine


VERBS: dict[str, Callable[..., Any]] = {
    "generate": lambda engine, kind, **more: engine.generate([5, 6], GREEDY, kind, **more),
    "list": lambda engine, kind, **more: engine.generate([[5, 6], [7]], GREEDY, kind, **more)[1],
    "with completion": lambda engine, kind, **more: engine.generate_with_completion([5, 6], kind, GREEDY, **more)[0],
    "chat": lambda engine, kind, **more: engine.chat([{"role": "user", "content": "Hi."}], GREEDY, kind, **more),
    "stream": lambda engine, kind, **more: [*engine.stream([5, 6], GREEDY, kind, **more)][-1],
    "client": lambda engine, kind, **more: from_engine(engine).create(kind, CHAT, sampling=GREEDY, **more),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_gives_or_refuses_it(tiny: Engine, verb: str) -> None:
    if verb not in ("chat", "client"):  # the tiny model has no chat template
        assert isinstance(VERBS[verb](tiny, Whole, guarantee="full"), Whole)
    before = tiny.stats()
    with pytest.raises(SchemaError, match="count: validator") as caught:
        VERBS[verb](tiny, Checked, guarantee="full")
    assert caught.value.field == "response_model"
    with pytest.raises(ParameterError, match="guarantee='some'"):
        VERBS[verb](tiny, Whole, guarantee="some")
    after = tiny.stats()
    assert (after.steps, after.requests_finished) == (before.steps, before.requests_finished)


def test_a_plan_is_a_response_model(tiny: Engine) -> None:
    planned = forms.plan(Whole, forms.PlanLimits(string_length=3))
    assert isinstance(tiny.generate([5, 6], GREEDY, planned, guarantee="full"), Whole)
    form = tiny.form(planned)
    assert form.plan is planned
    assert tiny.form(forms.plan({"enum": [1, 2]})).accepts("2")
    assert tiny.generate([5, 6], GREEDY, forms.plan({"enum": [1, 2]})) in (1, 2)


def test_without_a_type_it_is_about_the_grammar(tiny: Engine) -> None:
    full = SamplingParams(temperature=0, max_tokens=9, json_schema={"enum": [1, 2]})
    assert tiny.generate([5, 6], full, guarantee="full").text in ("1", "2")
    with pytest.raises(SchemaError, match="uniqueItems") as caught:
        tiny.generate([5, 6], full.with_(json_schema=UNIQUE), guarantee="full")
    assert caught.value.field == "json_schema"
    tiny.generate([5, 6], full.with_(json_schema=UNIQUE))
    for verb in (tiny.generate, lambda *given, **more: list(tiny.stream(*given, **more))):
        with pytest.raises(ParameterError, match="needs a response_model or a json_schema"):
            verb([5, 6], SamplingParams(max_tokens=2), guarantee="full")


async def test_the_async_engine_too(model: Path) -> None:
    async with AsyncEngine(model, threads=1, max_model_len=512, kv_cache_memory="16MB") as engine:
        assert isinstance(await engine.generate([5, 6], GREEDY, Whole, guarantee="full"), Whole)
        with pytest.raises(SchemaError, match="count: validator"):
            await engine.generate([5, 6], GREEDY, Checked, guarantee="full")
        with pytest.raises(SchemaError, match="count: validator"):
            async for _ in engine.stream([5, 6], GREEDY, Checked, guarantee="full"):
                pass


def test_a_schema_that_nothing_satisfies_fails_its_own_request_only(model: Path) -> None:
    """Others of the same engine go on while it is refused."""

    async def mixed() -> list[Any]:
        async with AsyncEngine(model, threads=1, max_model_len=512, kv_cache_memory="16MB") as engine:
            kinds: list[Any] = [Whole, Annotated[int, Field(ge=2, le=1)], Whole, {"type": "objekt"}, Whole]
            calls = [engine.generate([5, 6 + i], GREEDY, kind) for i, kind in enumerate(kinds)]
            return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(mixed())
    assert [isinstance(answer, Whole) for answer in answers] == [True, False, True, False, True]
    assert [isinstance(answer, SchemaError) for answer in answers] == [False, True, False, True, False]
