"""Thoughts before the answer: free, bounded, no part of the text, and the form after them is as good as ever."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field
from stepped import SteppedEngine
from tiny import write_tiny_llama

from pageform import Engine, FinishReason, IncompleteOutput, ParameterError, Reasoning, SamplingParams
from pageform.engine.options import TypedOptions
from pageform.engine.resume import Given, load
from pageform.engine.typed import TypedCall

ASK = [{"role": "user", "content": "Rex is a dog of 7 years. Who is it?"}]


class Animal(BaseModel):
    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=150)
    kind: Literal["cat", "dog", "elephant"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = write_tiny_llama(tmp_path_factory.mktemp("tiny"))
    with Engine(folder, threads=1, kv_cache_memory="16MB", check_invariants=True) as made:
        yield made


def params(**changes: Any) -> SamplingParams:
    return SamplingParams(**{"temperature": 1.0, "seed": 1, "reasoning": True, **changes})


def test_a_form_comes_after_the_thoughts(engine: Engine) -> None:
    value, completion = engine.generate_with_completion(ASK, Animal, params(thinking_token_budget=12, max_tokens=120))
    assert isinstance(value, Animal)
    assert Animal.model_validate_json(completion.text) == value
    assert completion.reasoning
    assert completion.usage.details == {"reasoning_tokens": 12}
    whole = engine.tokenizer.decode(completion.token_ids)
    before, after = whole.split("</think>")
    assert (before, after.lstrip("\n")) == (completion.reasoning, completion.text)
    prompt = engine.tokenizer.decode(completion.prompt_token_ids, skip_special_tokens=False)
    assert prompt.endswith("<|im_start|>assistant\n<think>\n")


def test_text_comes_after_the_thoughts(engine: Engine) -> None:
    completion = engine.chat(ASK, params(thinking_token_budget=5, max_tokens=20, temperature=0.0))
    assert completion.usage.details == {"reasoning_tokens": 5}
    assert completion.text
    assert "think>" not in completion.text + completion.reasoning
    assert len(completion.token_ids) == 20
    free = engine.chat(ASK, params(reasoning=None, max_tokens=5))
    assert free.reasoning is None
    assert free.usage.details == {}


def test_tags_of_ones_own(engine: Engine) -> None:
    tags = Reasoning("[PLAN]", "[/PLAN]")
    choice = params(reasoning=tags, thinking_token_budget=4, choice=["yes", "no"], max_tokens=40)
    completion = engine.generate("Is snow cold?", choice)
    assert completion.text in ("yes", "no")
    assert engine.tokenizer.decode(completion.prompt_token_ids).endswith("[PLAN]\n")
    assert "[/PLAN]" in engine.tokenizer.decode(completion.token_ids)


@pytest.mark.parametrize("budget", [0, 1, 2, 3, 9, None])
def test_budgets_and_drafts(tiny: Engine, budget: int | None) -> None:
    """A budget is never exceeded, and drafts change no token; whatever else is in the batch."""
    prompts = [f"{i} one two one two one {i}" for i in range(6)]
    sampling = [
        params(seed=i, drafts=mode, thinking_token_budget=budget, max_tokens=150 + i, temperature=i % 3 / 2)
        for mode in ("none", "auto")
        for i in range(6)
    ]
    free = [SamplingParams(seed=i, max_tokens=40) for i in range(3)]
    pairs = tiny.generate_with_completion([*prompts, *prompts], Animal, sampling)
    plain, drafted = pairs[:6], pairs[6:]
    assert [c.token_ids for _, c in plain] == [c.token_ids for _, c in drafted]
    for _, completion in pairs:
        assert budget is None or completion.usage.details["reasoning_tokens"] <= budget
        assert "\ufffd" not in completion.reasoning
    alone = [tiny.generate(f"free {i}", free[i]) for i in range(3)]
    mixed = tiny.generate([f"free {i}" for i in range(3)] + prompts, [*free, *sampling[:6]])
    assert [c.token_ids for c in mixed[:3]] == [c.token_ids for c in alone]


def test_from_the_least_on_no_answer_is_cut_off(tiny: Engine) -> None:
    least = tiny.form(Animal).min_tokens + len("</think>")
    lengths = [*range(1, least + 12, 7), least - 1, least, least + 1, least + 2, 200]
    sampling = [params(seed=n, max_tokens=n, thinking_token_budget=[None, 3][n % 2]) for n in lengths]
    results = tiny.generate(["Who?"] * len(lengths), sampling, Animal, max_retries=0, return_exceptions=True)
    for length, result in zip(lengths, results, strict=True):
        assert isinstance(result, Animal if length >= least else IncompleteOutput), (length, result)


def test_a_value_after_thoughts_is_decoded_again(engine: Engine) -> None:
    seen: list[int] = []

    def refuse(value: int) -> int:
        if value not in seen:
            seen.append(value)
        if seen.index(value) < 2:
            raise ValueError("not that")
        return value

    class Strict(BaseModel):
        age: Annotated[int, Field(ge=0, le=999), AfterValidator(refuse)]
        name: str = Field(max_length=8)

    sampling = params(thinking_token_budget=6, temperature=0.0, max_tokens=80)
    value, completion = engine.generate_with_completion(ASK, Strict, sampling)
    assert value.age == seen[2]
    assert [one.path for one in completion.rewinds] == ["age", "age"]
    assert len(completion.attempts) == 1
    assert engine.tokenizer.decode(completion.token_ids) == f"{completion.reasoning}</think>{_gap(engine, completion)}"


def _gap(engine: Engine, completion: Any) -> str:
    whole = engine.tokenizer.decode(completion.token_ids)
    gap = whole.removeprefix(completion.reasoning + "</think>").removesuffix(completion.text)
    assert gap.strip("\n") == ""
    return gap + completion.text


def test_a_first_value_that_shares_a_token_with_the_tag(tiny: Engine) -> None:
    """A bare value begins right behind the tag; going back to it keeps the tag."""
    rng = random.Random(0)
    refused: set[int] = set()

    def refuse(value: int) -> int:
        if value in refused or (len(refused) < 3 and rng.random() < 2):
            refused.add(value)
            raise ValueError("no")
        return value

    class Bare(BaseModel):
        n: Annotated[int, AfterValidator(refuse)] = Field(ge=0, le=99)

    value, completion = tiny.generate_with_completion("x", Bare, params(thinking_token_budget=4, max_tokens=90))
    assert value.n not in refused
    assert len(completion.rewinds) >= 3
    assert tiny.tokenizer.decode(completion.token_ids).count("</think>") == 1


def test_thoughts_may_end_the_answer_only_without_a_form(tiny: Engine) -> None:
    completion = tiny.generate("abc", params(max_tokens=30, seed=5))
    assert completion.finish_reason in (FinishReason.LENGTH, FinishReason.STOP)
    assert completion.text == "" or "</think>" in tiny.tokenizer.decode(completion.token_ids)


@pytest.mark.parametrize("tags", [True, Reasoning("[A]", "[/A]")])
def test_suspended_thoughts_go_on(tmp_path: Path, tags: Any) -> None:
    """In the midst of the thoughts, at their forced end, in the form: all is as without the stop."""
    with SteppedEngine(write_tiny_llama(tmp_path), threads=1, kv_cache_memory="16MB", drafts="none") as engine:
        form = engine.form(Animal)
        sampling = params(reasoning=tags, thinking_token_budget=6, max_tokens=120)

        def call() -> TypedCall[Any]:
            return TypedCall(engine, form, "Who?", sampling, TypedOptions())

        whole = call()
        engine.answer(whole, _submitted(engine, whole.next_ticket()))
        for steps in (2, 5, 8, 14, 30):
            begun = call()
            ticket = engine.answer(begun, _submitted(engine, begun.next_ticket()), steps)
            assert ticket is not None
            resumed = load(engine, engine.suspend(ticket), Given(Animal))
            assert resumed.call is not None
            engine.answer(resumed.call, _submitted(engine, resumed.ticket))
            assert resumed.call.completion.token_ids == whole.completion.token_ids
            assert resumed.call.completion.reasoning == whole.completion.reasoning
            assert resumed.call.completion.usage.details == whole.completion.usage.details
            assert resumed.call.value == whole.value


def _submitted(engine: Engine, ticket: Any) -> Any:
    engine.submit(ticket)
    return ticket


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"reasoning": "yes"}, "reasoning"),
        ({"reasoning": None, "thinking_token_budget": 3}, "thinking_token_budget"),
        ({"thinking_token_budget": -1}, "thinking_token_budget"),
        ({"thinking_token_budget": True}, "thinking_token_budget"),
    ],
)
def test_bad_parameters_are_told(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ParameterError) as caught:
        params(**changes)
    assert caught.value.field == field


@pytest.mark.parametrize("tags", [("", "x"), ("<t>", "  "), ("<t>", "«»"), (1, "x")])
def test_bad_tags_are_told(tags: tuple[Any, Any]) -> None:
    with pytest.raises(ParameterError, match="is no tag"):
        Reasoning(*tags)
