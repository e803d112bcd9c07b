"""The user's door: prompts in their forms, results in order, stops, limits, errors that name what is wrong."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest

from pageform import (
    BatchFailed,
    CapacityError,
    Completion,
    Engine,
    EngineClosedError,
    FinishReason,
    ModelNotFoundError,
    ParameterError,
    RequestError,
    SamplingParams,
)
from pageform.platform import usable_cores

CORES = usable_cores() or {0}
SHORT = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)


def test_text_and_token_ids_of_it_give_the_same(engine: Engine) -> None:
    ids = engine.tokenizer.encode("The capital of France is")
    assert engine.generate("The capital of France is", SHORT).token_ids == engine.generate(ids, SHORT).token_ids


def test_one_gives_one_and_a_list_gives_a_list_in_order(engine: Engine) -> None:
    prompts = ["One two three", "The sky is", "Water boils at"]
    many = engine.generate(prompts, SHORT)
    assert isinstance(engine.generate(prompts[0], SHORT), Completion)
    assert [c.prompt_token_ids for c in many] == [engine.tokenizer.encode(p) for p in prompts]
    assert [c.text for c in many] == [engine.generate(p, SHORT).text for p in prompts]
    assert engine.generate([], SHORT) == []
    mixed = engine.generate([prompts[0], engine.tokenizer.encode(prompts[1])], SHORT)
    assert [c.text for c in mixed] == [c.text for c in many[:2]]


def test_a_completion_says_what_happened(engine: Engine) -> None:
    c = engine.generate("Once upon a time", SHORT)
    assert c.finish_reason is FinishReason.LENGTH
    assert len(c.token_ids) == 8
    assert c.usage.completion_tokens == 8
    assert c.usage.prompt_tokens == len(engine.tokenizer.encode("Once upon a time"))
    assert c.text == engine.tokenizer.decode(c.token_ids)
    assert c.timings.first_token is not None
    assert 0 <= c.timings.queued <= c.timings.first_token <= c.timings.total


def test_chat_uses_the_template(engine: Engine) -> None:
    c = engine.chat([{"role": "user", "content": "Say hello."}], SHORT)
    assert "<|im_start|>user\nSay hello.<|im_end|>" in engine.tokenizer.decode(
        c.prompt_token_ids, skip_special_tokens=False
    )


def test_streamed_text_adds_up(engine: Engine) -> None:
    deltas = list(engine.stream("Emoji please: ", SHORT.with_(max_tokens=24)))
    assert len(deltas) > 3
    assert "".join(deltas) == engine.generate("Emoji please: ", SHORT.with_(max_tokens=24)).text


def test_leaving_a_stream_aborts_its_request(engine: Engine) -> None:
    stream = engine.stream("Count to a thousand: 1, 2, 3,", SHORT.with_(max_tokens=1500))
    next(stream)
    stream.close()
    for _ in range(200):
        stats = engine.stats()
        if stats.requests_running == 0:
            break
    assert stats.requests_running == 0
    assert stats.kv_blocks_used == 0


def test_resetting_the_prefix_cache_forgets_it(engine: Engine) -> None:
    prompt = "A prompt that is long enough to fill at least one block of sixteen tokens, and then some more of it."
    engine.generate(prompt, SHORT)
    assert engine.generate(prompt, SHORT).usage.cached_tokens > 0
    assert engine.generate(prompt, SHORT.with_(cache_salt="another tenant")).usage.cached_tokens == 0
    engine.reset_prefix_cache()
    assert engine.generate(prompt, SHORT).usage.cached_tokens == 0


@pytest.mark.parametrize("include", [False, True])
def test_stop_strings_end_the_text_in_the_same_step(engine: Engine, include: bool) -> None:
    whole = engine.generate("The quick brown fox", SHORT.with_(max_tokens=32)).text
    stop = whole[len(whole) // 2 : len(whole) // 2 + 3]
    c = engine.generate(
        "The quick brown fox", SHORT.with_(max_tokens=32, stop=[stop, "\x00"], include_stop_str_in_output=include)
    )
    cut = whole.index(stop)
    assert c.finish_reason is FinishReason.STOP
    assert c.stop == stop
    assert c.text == whole[: cut + (len(stop) if include else 0)]
    assert len(engine.tokenizer.decode(c.token_ids[:-1])) < cut + len(stop)


def test_stop_token_ids(engine: Engine) -> None:
    free = engine.generate("Once upon a time", SHORT)
    stopped = engine.generate("Once upon a time", SHORT.with_(stop_token_ids=[free.token_ids[3]]))
    first = free.token_ids.index(free.token_ids[3])
    assert stopped.token_ids == free.token_ids[: first + 1]
    assert stopped.stop == free.token_ids[3]


def test_logprobs_agree_with_a_softmax_of_the_logits(engine: Engine) -> None:
    seen: list[np.ndarray] = []

    def keep(ids: list[int], logits: np.ndarray) -> np.ndarray:
        seen.append(logits.copy())
        return logits

    c = engine.generate("The capital of France is", SHORT.with_(logprobs=3, logits_processors=[keep]))
    assert c.logprobs is not None
    assert len(c.logprobs) == len(c.token_ids) == len(seen)
    for entry, token, logits in zip(c.logprobs, c.token_ids, seen, strict=True):
        expected = logits.astype(np.float64) - np.logaddexp.reduce(logits.astype(np.float64))
        assert entry.token_id == token
        assert entry.logprob == pytest.approx(expected[token], abs=1e-4)
        assert entry.rank == 1
        assert list(entry.top) == np.argsort(-logits, kind="stable")[:3].tolist()


def test_prompt_logprobs_score_every_prompt_token_but_the_first(engine: Engine) -> None:
    c = engine.generate("The capital of France is Paris", SHORT.with_(prompt_logprobs=1, max_tokens=1))
    assert c.prompt_logprobs is not None
    assert len(c.prompt_logprobs) == len(c.prompt_token_ids)
    assert c.prompt_logprobs[0] is None
    assert [e.token_id for e in c.prompt_logprobs[1:] if e] == c.prompt_token_ids[1:]
    assert all(-40 < e.logprob < 0 for e in c.prompt_logprobs[1:] if e)


def test_bias_allowed_tokens_and_bad_words(engine: Engine) -> None:
    allowed = engine.tokenizer.encode(" yes no maybe", add_special_tokens=False)
    c = engine.generate("Answer:", SHORT.with_(allowed_token_ids=allowed))
    assert set(c.token_ids) <= set(allowed)
    token = engine.tokenizer.encode(" banana", add_special_tokens=False)[0]
    assert engine.generate("I like", SHORT.with_(logit_bias={token: 100.0})).token_ids == [token] * 8
    free = engine.generate("Once upon a time", SHORT)
    word = free.text.split()[1]
    assert word not in engine.generate("Once upon a time", SHORT.with_(bad_words=[word])).text


def test_penalties_change_the_text_and_min_tokens_holds_back_the_end(engine: Engine) -> None:
    base = engine.generate("la la la la la la la", SHORT.with_(max_tokens=16))
    punished = engine.generate("la la la la la la la", SHORT.with_(max_tokens=16, repetition_penalty=1.8))
    assert base.token_ids != punished.token_ids
    chat = [{"role": "user", "content": "Reply with the single word: yes"}]
    free = engine.chat(chat, SamplingParams(temperature=0, max_tokens=64))
    held = engine.chat(chat, SamplingParams(temperature=0, max_tokens=64, min_tokens=len(free.token_ids) + 3))
    assert free.finish_reason is FinishReason.STOP
    assert len(held.token_ids) >= len(free.token_ids) + 3


def test_repetition_detection_ends_a_loop(engine: Engine) -> None:
    from pageform import RepetitionDetection

    token = engine.tokenizer.encode(" ha", add_special_tokens=False)[0]
    c = engine.generate(
        "Laugh:",
        SHORT.with_(max_tokens=200, logit_bias={token: 100.0}, repetition_detection=RepetitionDetection(min_count=10)),
    )
    assert c.finish_reason is FinishReason.REPETITION
    assert len(c.token_ids) == 10


def test_seeds_repeat_and_differ(engine: Engine) -> None:
    params = SamplingParams(temperature=1.0, max_tokens=12, ignore_eos=True, seed=3)
    a, b = engine.generate("Once", params), engine.generate("Once", params)
    assert a.token_ids == b.token_ids
    assert engine.generate("Once", params.with_(seed=4)).token_ids != a.token_ids


def test_a_faulty_logits_processor_ends_its_own_request_only(engine: Engine) -> None:
    def broken(ids: list[int], logits: np.ndarray) -> np.ndarray:
        if len(ids) == 3:
            raise ZeroDivisionError("processor bug")
        return logits

    plain = engine.generate("The sky is", SHORT)
    with pytest.raises(BatchFailed) as caught:
        engine.generate(["The sky is"] * 3, [SHORT, SHORT.with_(logits_processors=[broken]), SHORT])
    results = caught.value.results
    assert [r.text for r in (results[0], results[2])] == [plain.text] * 2
    assert isinstance(results[1], RequestError)
    assert isinstance(results[1].__cause__, ZeroDivisionError)
    assert results[1].completion.token_ids == plain.token_ids[:3]
    in_place = engine.generate(
        ["The sky is"] * 2, [SHORT, SHORT.with_(logits_processors=[broken])], return_exceptions=True
    )
    assert in_place[0].text == plain.text
    assert isinstance(in_place[1], RequestError)


def test_deadlines_keep_what_was_decoded(engine: Engine) -> None:
    c = engine.generate("Count: one, two,", SHORT.with_(max_tokens=1800, timeout=0.3))
    assert c.finish_reason is FinishReason.TIMEOUT
    assert 0 < len(c.token_ids) < 1800
    assert "timeout" in (c.detail or "")


def test_abort_from_another_thread(engine: Engine) -> None:
    timer = threading.Timer(0.3, engine.abort, ["to-abort"])
    timer.start()
    c = engine.generate("Count: one, two,", SHORT.with_(max_tokens=1800), request_id="to-abort")
    assert c.finish_reason is FinishReason.ABORT
    assert engine.stats().kv_blocks_used == 0


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("prompt", {"prompts": ""}),
        ("prompt", {"prompts": [[]]}),
        ("prompt", {"prompts": [10**9]}),
        ("prompt", {"prompts": [5] * 5000}),
        ("prompts", {"prompts": 3}),
        ("messages[0]", {"prompts": [{"role": "user"}]}),
        ("prompts", {"prompts": [{3}]}),
        ("sampling", {"prompts": "a", "sampling": {"temperature": 0}}),
        ("sampling", {"prompts": ["a", "b"], "sampling": [SHORT]}),
        ("max_tokens", {"prompts": "a", "sampling": SHORT.with_(max_tokens=4000)}),
        ("stop_token_ids", {"prompts": "a", "sampling": SHORT.with_(stop_token_ids=[10**7])}),
        ("logit_bias", {"prompts": "a", "sampling": SHORT.with_(logit_bias={10**7: 1.0})}),
        ("n", {"prompts": "a", "sampling": SamplingParams(n=1000)}),
    ],
)
def test_bad_input_is_refused_before_work_by_name(engine: Engine, field: str, call: dict[str, Any]) -> None:
    steps = engine.stats().steps
    with pytest.raises(ParameterError) as caught:
        engine.generate(**call)
    assert caught.value.field == field
    assert engine.stats().steps == steps


@pytest.mark.parametrize("name", ["no-such-model", "./missing.gguf", "nobody/nothing-here"])
def test_an_unknown_model_says_how_to_get_one(name: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        Engine(name)
    assert name in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("field", "parameters"),
    [
        ("threads", {"threads": 0}),
        ("max_num_seqs", {"max_num_seqs": True}),
        ("max_model_len", {"max_model_len": 10**6}),
        ("kv_cache_memory", {"kv_cache_memory": "lots"}),
        ("kv_cache_memory", {"kv_cache_memory": 1.5}),
        ("kv_cache_dtype", {"kv_cache_dtype": "int3"}),
        ("device", {"device": "cuda"}),
        ("device", {"device": "abacus"}),
        ("dtype", {"dtype": "float8"}),
        ("tokenizer", {"tokenizer": 5}),
        ("max_num_batched_tokens", {"max_num_batched_tokens": 4, "max_num_seqs": 8}),
        ("cores", {"cores": 0}),
        ("cores", {"cores": "0"}),
        ("cores", {"cores": []}),
        ("cores", {"cores": [0.0]}),
        ("cores", {"cores": [min(CORES), min(CORES)]}),
        ("cores", {"cores": [max(CORES) + 1]}),
        ("cores", {"cores": [min(CORES)], "threads": 2}),
    ],
)
def test_bad_engine_parameters_are_refused_by_name(field: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(ParameterError) as caught:
        Engine("smollm2", **parameters)
    assert caught.value.field == field
    assert caught.value.remedy


def test_too_little_memory_for_one_request_is_told_with_the_amount() -> None:
    with pytest.raises(CapacityError, match="kv_cache_memory"):
        Engine("smollm2", kv_cache_memory="1MB", max_model_len=2048)


def test_pinned_threads_answer_the_same(engine: Engine) -> None:
    with Engine("smollm2", cores=[max(CORES)], kv_cache_memory="64MB", max_model_len=128) as pinned:
        assert pinned.generate("The sky is", SHORT).token_ids == engine.generate("The sky is", SHORT).token_ids
        assert "1 thread" in pinned.stats().device


def test_nan_temperature() -> None:
    with pytest.raises(ParameterError, match="temperature"):
        SamplingParams(temperature=math.nan)


def test_a_full_queue_refuses_by_name_and_disturbs_nobody() -> None:
    with Engine(
        "smollm2", threads=2, kv_cache_memory="64MB", max_model_len=512, max_num_seqs=1, max_queued_requests=2
    ) as engine:
        results = engine.generate(["The sky is"] * 6, SHORT, return_exceptions=True)
    refused = [r for r in results if isinstance(r, CapacityError)]
    served = [r for r in results if isinstance(r, Completion)]
    assert refused
    assert served
    assert len(refused) + len(served) == 6
    assert {r.field for r in refused} == {"max_queued_requests"}
    assert len({r.text for r in served}) == 1


def test_an_id_in_use_is_refused_and_its_owner_undisturbed(engine: Engine) -> None:
    stream = engine.stream("Count: one, two,", SHORT.with_(max_tokens=40), request_id="mine")
    first = next(stream)
    with pytest.raises(ParameterError, match="request_id"):
        engine.generate("x", SHORT, request_id="mine")
    assert first + "".join(stream) == engine.generate("Count: one, two,", SHORT.with_(max_tokens=40)).text


def test_a_closed_engine_says_so() -> None:
    engine = Engine("smollm2", threads=1, kv_cache_memory="32MB", max_model_len=256)
    engine.close()
    engine.close()
    with pytest.raises(EngineClosedError):
        engine.generate("Hello", SHORT)


def test_without_tokenizer_only_ids_go_in_and_out(engine: Engine) -> None:
    ids = engine.tokenizer.encode("The sky is")
    with Engine("smollm2", tokenizer=None, threads=2, kv_cache_memory="32MB", max_model_len=256) as bare:
        c = bare.generate(ids, SHORT)
        assert c.token_ids == engine.generate(ids, SHORT).token_ids
        assert c.text == ""
        with pytest.raises(ParameterError, match="prompt"):
            bare.generate("The sky is", SHORT)
