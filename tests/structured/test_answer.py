"""Putting the deltas of a stream together."""

from pageform.core.completion import FinishReason, Usage
from pageform.structured import Answer, Assembler, Delta, ToolCall


def assembled(*deltas: Delta) -> Answer:
    assembler = Assembler()
    for delta in deltas:
        assembler.add(delta)
    return assembler.answer()


def test_text_refusal_and_finish_are_joined() -> None:
    answer = assembled(Delta("a"), Delta("b", refusal="n"), Delta(refusal="o", finish_reason=FinishReason.STOP))
    assert (answer.text, answer.refusal, answer.finish_reason) == ("ab", "no", FinishReason.STOP)


def test_a_stream_without_an_end_was_cut_off() -> None:
    assert assembled(Delta("a")).finish_reason is FinishReason.ABORT
    assert assembled().finish_reason is FinishReason.ABORT


def test_calls_are_told_apart_by_number_and_by_id() -> None:
    whole = [Delta(call=0, call_id=i, name=n, arguments="{}") for i, n in (("1", "A"), ("2", "A"), ("3", "B"))]
    assert assembled(*whole).tool_calls == (
        ToolCall("A", "{}", "1"),
        ToolCall("A", "{}", "2"),
        ToolCall("B", "{}", "3"),
    )
    mixed = [
        Delta(call=3, call_id="x", name="A"),
        Delta(call=5, call_id="y", name="B", arguments="["),
        Delta(call=3, arguments="{"),
        Delta(call=5, arguments="]"),
        Delta(call=3, arguments="}"),
    ]
    assert assembled(*mixed).tool_calls == (ToolCall("A", "{}", "x"), ToolCall("B", "[]", "y"))


def test_what_servers_repeat_in_each_event_counts_once() -> None:
    each = [Delta(call=0, call_id="1", name="A", arguments=text) for text in "{}"]
    assert assembled(*each).tool_calls == (ToolCall("A", "{}", "1"),)
    renamed = [Delta(call=0, call_id="1", name="A", arguments="{"), Delta(call=0, call_id="2", arguments="}")]
    assert assembled(*renamed).tool_calls == (ToolCall("A", "{}", "1"),)


def test_usage_is_a_running_total() -> None:
    answer = assembled(Delta(usage=Usage(10, 1, 4)), Delta(usage=Usage(0, 7)), Delta(usage=Usage(0, 9)))
    assert answer.usage == Usage(10, 9, 4)


def test_of_details_too_the_largest_is_true() -> None:
    first, last = (
        Usage(10, 1, 0, {"reasoning_tokens": 1, "cache_write_tokens": 3}),
        Usage(0, 7, 0, {"reasoning_tokens": 5}),
    )
    answer = assembled(Delta(usage=first), Delta(usage=last))
    assert answer.usage == Usage(10, 7, 0, {"reasoning_tokens": 5, "cache_write_tokens": 3})


def test_calls_without_a_name_are_none_of_the_callers() -> None:
    assembler = Assembler()
    deltas = [
        Delta(call=1, arguments="{"),
        Delta(call=2, call_id="x", name="A", arguments="["),
        Delta(call=1, arguments="}"),
    ]
    assert [assembler.add(delta) for delta in deltas] == [None, 0, None]
    assert assembler.answer().tool_calls == (ToolCall("A", "[", "x"),)
    assert assembler.add(Delta(call=1, call_id="y", name="B")) == 1  # a name may come late
    assert assembler.answer().tool_calls == (ToolCall("A", "[", "x"), ToolCall("B", "{}", "y"))


def test_pieces_of_the_turn_are_kept_in_order() -> None:
    assert assembled(Delta("a")).turn == ()
    answer = assembled(Delta(turn="first"), Delta("text"), Delta(turn="second", anchored=True), Delta(turn="third"))
    assert (answer.turn, answer.anchored) == (("first", "second", "third"), True)


def test_calls_without_a_number_are_whole() -> None:
    whole = Delta(name="A", arguments="{}")
    assembler = Assembler()
    assert [assembler.add(whole), assembler.add(whole)] == [0, 1]
    assert assembler.answer().tool_calls == (ToolCall("A", "{}"), ToolCall("A", "{}"))
