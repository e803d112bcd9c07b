"""Answers that call tools: a conversation's way through attempts to calls whose arguments are valid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from ..core.completion import Completion, FinishReason, ToolCall
from ..core.errors import ParameterError
from ..core.params import SamplingParams
from ..forms.checks import Check
from ..forms.plan import plan
from ..forms.rewind import RewindOptions
from ..structured.answer import Answer
from ..structured.answer import ToolCall as AnswerCall
from ..structured.errors import BrokeOff, NoToolCall
from ..structured.faults import failed, relocated
from ..structured.judge import AttemptInfo, Judge, Verdict
from ..structured.loop import Earlier, Rejection, retry
from ..structured.spec import Spec
from ..structured.tools import Choice, Tool, chosen, tools_of
from ..text.tool_formats import tool_format
from ..text.tool_prompt import as_text, definition, for_template
from .base import BaseEngine, Sampling
from .calls_guard import CallOptions
from .feed import FeedOptions
from .layouts import tags_of, tool_call
from .options import ToolOptions, TypedOptions
from .prepare import Messages, is_messages
from .sink import OnDelta, OnPart
from .suspend import calls_snapshot, schema_text
from .ticket import Ticket
from .typed import TypedCall, refuse_second_grammar, verdict_on

if TYPE_CHECKING:
    from ..core.snapshot import TypedSnapshot
    from ..forms.grammar import Grammar
    from ..forms.laid_out import LaidOutGrammar
    from ..forms.segmenter import WrittenCall


class ToolSet:
    """The tools of a call, on one engine: how they are shown to its model, and the grammar of its answers."""

    def __init__(self, engine: BaseEngine, options: ToolOptions) -> None:
        self.tools: dict[str, Tool] = tools_of(options.tools)
        self.choice: Choice
        self.callable: Sequence[str]
        self.choice, self.callable = chosen(options.tool_choice, self.tools)
        self._engine = engine
        self.parallel = options.parallel_tool_calls and self.choice != "named"
        """Whether an answer may have several calls."""
        template = engine.tokenizer.chat_template
        self.format, self._is_native = tool_format(options.tool_format, template)
        self.definitions = [
            definition(tool.name, tool.description, _shown(tool.parameters)) for tool in self.tools.values()
        ]

    @property
    def must_call(self) -> bool:
        """Whether an answer must call a tool."""
        return self.choice in ("required", "named")

    @property
    def schema_text(self) -> str:
        """The JSON schemas of all arguments, by name."""
        return schema_text({name: tool.parameters for name, tool in self.tools.items()})

    def encode(self, messages: Messages, params: SamplingParams) -> list[int]:
        """Token ids of a conversation in which the model learns of the tools."""
        thinks = None if params.reasoning is None else bool(params.reasoning)
        shown = self.definitions if self.choice != "none" else []
        encode = self._engine.parts.preparer.encode_chat
        if self._is_native:
            return encode(messages, shown or None, thinks)
        return encode(as_text(messages, shown, self.format, self.must_call), thinks=thinks)

    def grammar(self, params: SamplingParams, options: TypedOptions) -> LaidOutGrammar | None:
        """The grammar of an answer; None where no tool may be called. Raises SchemaError."""
        from ..forms.laid_out import Answer as LaidOut
        from ..forms.laid_out import compile_answer
        from ..forms.layout import Layout

        if self.choice == "none":
            return None
        compiler = self._engine.parts.preparer.compiler
        assert compiler is not None
        plans = {}
        for name in self.callable:
            tool = self.tools[name]
            plans[name] = plan(tool.spec, compiler.plan_limits, tool.promotes)
            plans[name].promise(options.guarantee)
        tags = tags_of(params, self._engine.tokenizer)
        layout = Layout(None if tags is None else tags.end.encode(), self.format)
        answer = LaidOut(layout, tools=plans, must_call=self.must_call, parallel=self.parallel)
        return compile_answer(compiler, answer)

    def typed(self, call: ToolCall, context: Any, strict: bool | None) -> ToolCall:
        """A call with validated arguments. Raises pydantic's ValidationError, and whatever a validator raises."""
        return replace(call, arguments=self.tools[call.name].spec.validate(call.text, context, strict))


@dataclass(frozen=True)
class CallsJudge:
    """Validates the calls of an answer; the value is the list of them. See `Judge`, whose context it shares."""

    tools: ToolSet
    inner: Judge[Any]

    @property
    def spec(self) -> Spec[Any]:
        """What errors call the answer."""
        return self.inner.spec

    def __call__(self, answer: Answer, info: AttemptInfo | None = None) -> Verdict[list[ToolCall]]:
        """Raises `BrokeOff` or `NoToolCall` where a call is missing, and `ValidationError` with the faults of all
        calls, each under the number of its call."""
        if answer.error is not None:
            raise answer.error
        completion: Completion = answer.response
        if self.tools.must_call and not completion.tool_calls:
            if answer.finish_reason is not FinishReason.STOP:
                raise BrokeOff(answer.finish_reason)
            raise NoToolCall(" or ".join(self.tools.callable))
        values, faults = [], []
        with self.inner.attempt(info or AttemptInfo()) as context:
            for number, call in enumerate(completion.tool_calls):
                try:
                    values.append(self.tools.typed(call, context, self.inner.strict))
                except ValidationError as error:
                    faults += relocated(error, before=(number,))
        if faults:
            raise failed(self.spec.name, faults)
        return Verdict(values)

    def partial(self, answer: Answer) -> Any:
        """The complete calls of an answer that broke off."""
        return list(answer.response.tool_calls) or None


class ToolsCall(TypedCall[Completion]):
    """One conversation, and tools. Its value is the completion, whose calls have validated arguments."""

    def __init__(
        self,
        engine: BaseEngine,
        tools: ToolSet,
        messages: Any,
        params: SamplingParams,
        options: TypedOptions,
        request_id: str | None = None,
        earlier: Earlier[Any] | None = None,
    ) -> None:
        refuse_second_grammar(params, "tools")
        if options.confidence is not False or params.confidence is not False:
            value = options.confidence if options.confidence is not False else params.confidence
            raise ParameterError("confidence", value, "is told of a form's values, not of calls", "Leave it out.")
        if not is_messages(messages):
            remedy = 'Give a list of messages, such as [{"role": "user", "content": "…"}].'
            raise ParameterError("tools", list(tools.tools), "are for conversations", remedy)
        self._tools = tools
        self._grammar = tools.grammar(params, options)
        self._checks = {name: Check.of(tools.tools[name].spec.adapter) for name in tools.callable}
        judge = Judge(_SPEC, context=options.context, strict=options.strict)
        self._begin(engine, params, options, request_id, judge)
        talk = list(for_template(messages))  # calls of earlier turns as plain data
        self._original = talk if earlier is None else earlier.original
        self._loop = retry(
            talk,
            judge=CallsJudge(tools, judge),  # type: ignore[arg-type]
            reask=self._ask_again,
            policy=self._policy,
            hooks=self._observer,
            kwargs=self._told,
            earlier=earlier,
        )
        self._ask = next(self._loop)

    @property
    def grammar(self) -> Grammar | None:
        return self._grammar

    def next_ticket(
        self,
        feed: FeedOptions | None = None,
        prefix: bytes = b"",
        on_part: OnPart | None = None,
        on_delta: OnDelta | None = None,
    ) -> Ticket:
        """See `TypedCall.next_ticket`. Its answer has no fields to hear of; `on_delta` hears of its text."""
        ticket = self._engine.ticket(
            self._tools.encode(cast(Messages, self._ask.payload), self._params),
            self._params,
            self._grammar,
            on_delta,
            self._request_id,
            on_part=on_part,
            **self.guarding(),
        )
        ticket.typed = self.snapshot
        return ticket

    def guarding(self) -> dict[str, Any]:
        """See `TypedCall.guarding`."""
        return {} if self._grammar is None else {"calls": self._follow()}

    def snapshot(self) -> TypedSnapshot:
        """See `TypedCall.snapshot`."""
        return calls_snapshot(
            self._tools, self._params, self._original, self._ask.payload, self._observer.attempts, self._options
        )

    def typed(self, written: WrittenCall, ticket: Ticket) -> ToolCall | None:
        """A complete call of a running request with validated arguments; None if they are not valid."""
        call = tool_call(ticket.request_id, written)
        try:
            with self.board.answering():
                return self._tools.typed(call, self.context, self.strict)
        except Exception:  # validators are the caller's code: the end of the stream tells of it
            return None

    def _follow(self) -> CallOptions | None:
        options = self._options
        if options.on_invalid != "rewind" or self._params.stop:
            return None
        rewind = options.rewind or RewindOptions()
        return CallOptions(self._checks, rewind, self.board, self.context, options.strict)

    def _told(self, payload: Any) -> dict[str, Any]:
        """What hooks see of an attempt."""
        model, tools = str(self._engine.config.model), self._tools.definitions
        return {"model": model, "messages": payload, "tools": tools, "sampling": self._params}

    def _ask_again(self, messages: Any, answer: Answer, rejection: Rejection) -> Any:
        """The conversation with the calls that were not valid, and what was wrong with each as its result."""
        completion: Completion = answer.response
        if not completion.tool_calls:
            complaint = f"That answer is not valid:\n{rejection.text}\nAnswer again with a call of a tool."
            turns = [{"role": "assistant", "content": completion.text}] if completion.text else []
            return [*messages, *turns, {"role": "user", "content": complaint}]
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.text}}
            for call in completion.tool_calls
        ]
        results = [
            {"role": "tool", "tool_call_id": call.id, "name": call.name, "content": told}
            for call, told in zip(completion.tool_calls, rejection.results(answer), strict=True)
        ]
        return [*messages, {"role": "assistant", "content": completion.text, "tool_calls": calls}, *results]

    def _answer(self, completion: Completion) -> Answer:
        calls = tuple(AnswerCall(call.name, call.text, call.id) for call in completion.tool_calls)
        error = verdict_on(completion)
        reason, usage = completion.finish_reason, completion.usage
        return Answer(completion.text, reason, usage, completion, tool_calls=calls, error=error)

    def _accept(self, completion: Completion, outcome: Any) -> None:
        done = replace(completion, usage=outcome.usage, attempts=outcome.attempts, tool_calls=outcome.value)
        self.value = self.completion = done


class ToolStream:
    """What a stream with tools yields: text, thoughts, and each call once it is complete and valid; see `TypedStream`,
    whose interface it has. Calls that were given stand, so there is one attempt."""

    def __init__(self, call: ToolsCall, put: Callable[[Any], None], put_text: OnDelta) -> None:
        self._call, self._put, self._put_text = call, put, put_text
        self._ticket: Ticket

    @classmethod
    def of(
        cls,
        engine: BaseEngine,
        tools: ToolOptions,
        prompt: Any,
        sampling: Sampling,
        options: TypedOptions,
        request_id: str | None,
        deltas: Any,
    ) -> tuple[ToolsCall, ToolStream]:
        """The call and its stream; `deltas` takes what is told of it."""
        chosen_tools = ToolSet(engine, tools)
        [params] = engine.sampling_list(sampling, 1, chosen_tools.must_call, options.confidence)
        call = ToolsCall(engine, chosen_tools, prompt, params, replace(options, max_retries=0), request_id)
        return call, cls(call, deltas.put, deltas.put_text)

    @classmethod
    def resumed(cls, call: ToolsCall, ticket: Ticket, put: Callable[[Any], None], put_text: OnDelta) -> ToolStream:
        """The stream of a call that goes on."""
        stream = cls(call, put, put_text)
        stream._ticket = ticket
        return stream

    def next_ticket(self) -> Ticket:
        """The request."""
        self._ticket = self._call.next_ticket(on_part=self._put, on_delta=self._put_text)
        return self._ticket

    def see(self, change: Any) -> Any | None:
        """What the caller sees of a change."""
        from ..forms.segmenter import WrittenCall

        return self._call.typed(change, self._ticket) if isinstance(change, WrittenCall) else change

    def restart(self, ticket: Ticket) -> list[Any]:
        """There is no other attempt."""
        return []


def start_tools(
    engine: BaseEngine,
    items: Sequence[Any],
    sampling: Sampling,
    options: TypedOptions,
    request_id: str | None,
    tools: ToolOptions,
) -> list[tuple[TypedCall[Any] | None, Ticket]]:
    """The calls and first tickets of conversations with tools; see `start_answers`."""
    chosen_tools = ToolSet(engine, tools)
    params = engine.sampling_list(sampling, len(items), chosen_tools.must_call, options.confidence)
    if request_id is not None and len(items) != 1:
        raise ParameterError("request_id", request_id, "names one request, not a list", "Leave it out for lists.")
    calls = [
        ToolsCall(engine, chosen_tools, item, one, options, request_id) for item, one in zip(items, params, strict=True)
    ]
    return [(call, call.next_ticket()) for call in calls]


_SPEC: Spec[Any] = Spec.of({"type": "object", "title": "tool_calls"})
"""What errors call an answer with calls."""


def _shown(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without what its root repeats: the tool's name and description."""
    return {key: value for key, value in parameters.items() if key not in ("title", "description")}
