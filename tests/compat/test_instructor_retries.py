"""Asking again: retries, what the model is told, errors, hooks, context."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Annotated, Any

import openai
import pytest
import tenacity
from compat_tools import WIRE, departs, tool
from pydantic import AfterValidator, BaseModel, ValidationError, ValidationInfo, field_validator
from scripted_server import ScriptedServer
from wires import Said

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Jason is 25."}]}
SMALL = '{"name":"jason","age":25}'
LARGE = '{"name":"JASON","age":25}'


class Loud(BaseModel):
    name: str
    age: int

    @field_validator("name")
    @classmethod
    def upper(cls, value: str) -> str:
        if value != value.upper():
            raise ValueError("name must be in capital letters")
        return value


def errors_of(instructor: Any) -> Any:
    return import_module(f"{instructor.__name__}.core.exceptions")


def test_a_rejected_answer_goes_back_with_its_errors(
    instructor: Any, server: ScriptedServer, sdk: openai.OpenAI
) -> None:
    server.say(WIRE.reply(tool("Loud", SMALL)), WIRE.reply(tool("Loud", LARGE)))
    user = instructor.from_openai(sdk).create(**ASK, response_model=Loud, max_retries=2)
    assert user.name == "JASON"
    first, second = (request.json["messages"] for request in server.requests)
    assert second[: len(first)] == first
    assistant, result = second[len(first) :]
    assert assistant["role"] == "assistant"
    assert assistant["tool_calls"][0]["function"]["arguments"] == SMALL
    assert (result["role"], result["tool_call_id"]) == ("tool", "call_1")
    assert "name must be in capital letters" in result["content"]


def test_json_modes_complain_as_a_user(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(Said(SMALL)), WIRE.reply(Said(LARGE)))
    client = instructor.from_openai(sdk, mode=instructor.Mode.JSON)
    assert client.create(**ASK, response_model=Loud, max_retries=1).name == "JASON"
    *_, assistant, complaint = server.requests[1].json["messages"]
    assert (assistant["role"], assistant["content"]) == ("assistant", SMALL)
    assert complaint["role"] == "user"
    assert "name must be in capital letters" in complaint["content"]


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_n_retries_are_n_plus_one_attempts(
    instructor: Any, server: ScriptedServer, sdk: openai.OpenAI, retries: int
) -> None:
    server.say(*[WIRE.reply(tool("Loud", SMALL))] * (retries + 1))
    errors = errors_of(instructor)
    with pytest.raises(errors.InstructorRetryException) as caught:
        instructor.from_openai(sdk).create(**ASK, response_model=Loud, max_retries=retries)
    error = caught.value
    assert error.n_attempts == retries + 1
    assert len(error.failed_attempts) == retries + 1
    assert error.failed_attempts[0].attempt_number == 1
    assert isinstance(error.failed_attempts[0].exception, ValidationError)
    assert error.last_completion.id == "chatcmpl-1"
    assert error.total_usage.total_tokens == 15 * (retries + 1)
    assert error.create_kwargs["model"] == "m"
    assert error.messages
    assert "capital letters" in str(error)
    assert isinstance(error, errors.InstructorError)


def test_a_tenacity_object_sets_the_rules(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(*[WIRE.reply(tool("Loud", SMALL))] * 2)
    rules = tenacity.Retrying(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_fixed(0.01))
    with pytest.raises(errors_of(instructor).InstructorRetryException) as caught:
        instructor.from_openai(sdk).create(**ASK, response_model=Loud, max_retries=rules)
    assert caught.value.n_attempts == 2


async def test_an_async_tenacity_object_too(
    instructor: Any, server: ScriptedServer, async_sdk: openai.AsyncOpenAI
) -> None:
    server.say(WIRE.reply(tool("Loud", SMALL)), WIRE.reply(tool("Loud", LARGE)))
    rules = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(2), wait=tenacity.wait_fixed(0.01))
    client = instructor.from_openai(async_sdk)
    assert (await client.create(**ASK, response_model=Loud, max_retries=rules)).name == "JASON"


def test_a_truncated_answer_is_not_asked_for_again(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(Said('{"name":"JA', finish="length")))
    client = instructor.from_openai(sdk, mode=instructor.Mode.JSON)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is asserted below
        client.create(**ASK, response_model=Loud, max_retries=3)
    assert len(server.requests) == 1
    incomplete = errors_of(instructor).IncompleteOutputException
    chain = [caught.value, caught.value.__cause__, getattr(caught.value.__cause__, "__cause__", None)]
    assert any(isinstance(error, incomplete) for error in chain)


@departs("it wraps the exception that its documentation says to catch")
def test_a_truncated_answer_is_its_own_exception(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(Said('{"name":"JA', finish="length")))
    client = instructor.from_openai(sdk, mode=instructor.Mode.JSON)
    with pytest.raises(errors_of(instructor).IncompleteOutputException) as caught:
        client.create(**ASK, response_model=Loud)
    assert caught.value.last_completion.choices[0].finish_reason == "length"


def test_validators_see_the_context(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    class Quoted(BaseModel):
        quote: str

        @field_validator("quote")
        @classmethod
        def from_text(cls, value: str, info: ValidationInfo) -> str:
            assert info.context is not None
            if value not in info.context["text"]:
                raise ValueError("the quote is not in the text")
            return value

    server.say(WIRE.reply(tool("Quoted", '{"quote":"blue"}')), WIRE.reply(tool("Quoted", '{"quote":"25"}')))
    client = instructor.from_openai(sdk)
    quoted = client.create(**ASK, response_model=Quoted, context={"text": "Jason is 25."}, max_retries=1)
    assert quoted.quote == "25"
    assert "the quote is not in the text" in str(server.requests[1].json["messages"][-1])


def test_messages_are_templates_when_there_is_a_context(
    instructor: Any, server: ScriptedServer, sdk: openai.OpenAI
) -> None:
    server.say(*[WIRE.reply(tool("Loud", LARGE))] * 2)
    client = instructor.from_openai(sdk)
    messages = [{"role": "user", "content": "Who is {{ who }}?{% for x in tags %} #{{ x }}{% endfor %}"}]
    client.create(model="m", messages=messages, response_model=Loud, context={"who": "Jason", "tags": ["a", "b"]})
    client.create(model="m", messages=messages, response_model=Loud)
    assert server.requests[0].json["messages"][0]["content"] == "Who is Jason? #a #b"
    assert server.requests[1].json["messages"] == messages


def test_strict_goes_to_validation(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    text = '{"name":"JASON","age":"25"}'
    server.say(*[WIRE.reply(tool("Loud", text))] * 2)
    client = instructor.from_openai(sdk)
    assert client.create(**ASK, response_model=Loud, strict=False).age == 25
    with pytest.raises(errors_of(instructor).InstructorRetryException):
        client.create(**ASK, response_model=Loud, strict=True, max_retries=0)


def test_a_missing_tool_call_is_asked_for_again(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(Said("Jason is 25 years old.")), WIRE.reply(tool("Loud", LARGE)))
    assert instructor.from_openai(sdk).create(**ASK, response_model=Loud, max_retries=2).age == 25
    assert len(server.requests) == 2


def test_annotated_validators_work_on_simple_types(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    def small(value: int) -> int:
        if value > 100:
            raise ValueError("too large")
        return value

    server.say(WIRE.reply(tool("Response", '{"content":1000}')), WIRE.reply(tool("Response", '{"content":10}')))
    client = instructor.from_openai(sdk)
    assert client.create(**ASK, response_model=Annotated[int, AfterValidator(small)], max_retries=1) == 10


def test_errors_of_the_service_are_not_asked_again(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.error(400, "bad request"))
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is asserted below
        instructor.from_openai(sdk).create(**ASK, response_model=Loud, max_retries=3)
    assert len(server.requests) == 1
    chain = [caught.value, caught.value.__cause__, getattr(caught.value.__cause__, "__cause__", None)]
    assert any(isinstance(error, openai.BadRequestError) for error in chain)


def test_hooks_hear_of_everything(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(tool("Loud", SMALL)), WIRE.reply(tool("Loud", LARGE)))
    heard: list[str] = []
    client = instructor.from_openai(sdk)
    client.on("completion:kwargs", lambda *args, **kwargs: heard.append(f"kwargs {kwargs['model']}"))
    client.on("completion:response", lambda response: heard.append(f"response {response.id}"))
    client.on("parse:error", lambda error: heard.append(f"error {type(error).__name__}"))
    client.create(**ASK, response_model=Loud, max_retries=1)
    attempt = ["kwargs m", "response chatcmpl-1"]
    assert heard == [*attempt, "error ValidationError", *attempt]


def test_hooks_hear_of_the_last_attempt_and_of_usage(
    instructor: Any, server: ScriptedServer, sdk: openai.OpenAI
) -> None:
    server.say(*[WIRE.reply(tool("Loud", SMALL))] * 2)
    heard: list[Any] = []
    client = instructor.from_openai(sdk)
    client.on("completion:usage", lambda usage, *, attempt_number: heard.append((usage.total_tokens, attempt_number)))
    client.on("completion:last_attempt", lambda error: heard.append("last"))
    with pytest.raises(errors_of(instructor).InstructorRetryException):
        client.create(**ASK, response_model=Loud, max_retries=1)
    assert heard[:2] == [(15, 1), (30, 2)]
    assert "last" in heard


def test_hooks_can_be_taken_off_and_cleared(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(*[WIRE.reply(tool("Loud", LARGE))] * 3)
    heard: list[str] = []
    client = instructor.from_openai(sdk)

    def first(_: Any) -> None:
        heard.append("first")

    client.on("completion:response", first)
    client.create(**ASK, response_model=Loud)
    client.off("completion:response", first)
    client.create(**ASK, response_model=Loud)
    client.on("completion:response", first)
    client.clear("completion:response")
    client.create(**ASK, response_model=Loud)
    assert heard == ["first"]


def test_a_call_can_have_hooks_of_its_own(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(*[WIRE.reply(tool("Loud", LARGE))] * 2)
    hooks_module = import_module(f"{instructor.__name__}.core.hooks")
    heard: list[str] = []
    hooks = hooks_module.Hooks()
    hooks.on(hooks_module.HookName.COMPLETION_RESPONSE, lambda _: heard.append("call"))
    client = instructor.from_openai(sdk)
    client.on("completion:response", lambda _: heard.append("client"))
    client.create(**ASK, response_model=Loud, hooks=hooks)
    client.create(**ASK, response_model=Loud)
    assert sorted(heard[:2]) == ["call", "client"]
    assert heard[2:] == ["client"]


def test_a_hook_that_raises_is_a_warning(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(WIRE.reply(tool("Loud", LARGE)))

    def broken(_: Any) -> None:
        raise RuntimeError("broken hook")

    client = instructor.from_openai(sdk)
    client.on("completion:response", broken)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert client.create(**ASK, response_model=Loud).age == 25
    assert any("broken hook" in str(warning.message) for warning in caught)


def test_a_token_budget_ends_the_attempts(instructor: Any, server: ScriptedServer, sdk: openai.OpenAI) -> None:
    server.say(*[WIRE.reply(tool("Loud", SMALL))] * 2)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is asserted below
        instructor.from_openai(sdk).create(**ASK, response_model=Loud, max_retries=5, token_budget=25)
    assert len(server.requests) == 2
    chain = [caught.value, caught.value.__cause__, getattr(caught.value.__cause__, "__cause__", None)]
    assert any(isinstance(error, errors_of(instructor).TokenBudgetExceeded) for error in chain)


def test_a_model_may_check_itself_with_another_call(
    instructor: Any, server: ScriptedServer, sdk: openai.OpenAI
) -> None:
    client = instructor.from_openai(sdk)
    polite = instructor.llm_validator("say nothing rude", client=client, model="judge")
    Checked = Annotated[str, AfterValidator(polite)]

    class Reply(BaseModel):
        text: Checked

    verdict = '{"is_valid":false,"reason":"it is rude","fixed_value":null}'
    approved = '{"is_valid":true,"reason":null,"fixed_value":null}'
    server.say(
        WIRE.reply(tool("Reply", '{"text":"Go away."}')),
        WIRE.reply(tool("Validator", verdict)),
        WIRE.reply(tool("Reply", '{"text":"Please come later."}')),
        WIRE.reply(tool("Validator", approved)),
    )
    assert client.create(**ASK, response_model=Reply, max_retries=1).text == "Please come later."
    assert server.requests[1].json["model"] == "judge"
    assert "it is rude" in str(server.requests[2].json["messages"][-1])
