"""Confidence in the values of an answer, against transformers' logits and a walk over every way to write an option."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confidence_kit import EXACT, PROMPT, Cat, make, write_model
from oracle import hf_logits
from pydantic import BaseModel, Field, field_validator

from pageform import Completion, ConfidenceOptions, Engine, ParameterError, SamplingParams
from pageform.core.confidence import OTHER


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    with make(folder) as made:
        yield made


class Oracle:
    """The same model in torch."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(1)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._rows: dict[tuple[int, ...], np.ndarray] = {}

    def after(self, ids: Sequence[int]) -> np.ndarray:
        """Logits of what follows, float64."""
        key = tuple(ids)
        if key not in self._rows:
            self._rows[key] = hf_logits(self.model, list(ids))[-1].astype(np.float64)
        return self._rows[key]


@pytest.fixture(scope="module")
def oracle(folder: Path) -> Oracle:
    return Oracle(folder)


def allowed_by(matcher: Any, width: int) -> np.ndarray:
    words = np.zeros((width + 31) // 32, np.uint32)
    matcher.fill_mask(words)
    return np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little")[:width])


def log_sum(values: np.ndarray) -> float:
    return float(values.max() + np.log(np.exp(values - values.max()).sum()))


def true_weights(oracle: Oracle, grammar: Any, completion: Completion) -> list[tuple[float, float, float]]:
    """(logprob, model_logprob, log_allowed) of each output token."""
    logits = hf_logits(oracle.model, [*completion.prompt_token_ids, *completion.token_ids]).astype(np.float64)
    matcher = grammar.matcher()
    found = []
    for i, token in enumerate(completion.token_ids):
        row = logits[len(completion.prompt_token_ids) + i - 1]
        kept = log_sum(row[allowed_by(matcher, len(row))])
        found.append((row[token] - kept, row[token] - log_sum(row), kept - log_sum(row)))
        assert matcher.accept(token)
    return found


def texts_of(engine: Engine, ids: Sequence[int]) -> list[bytes]:
    return [b"" if i in engine.tokenizer.eos_ids else engine.tokenizer.token_bytes(i) for i in ids]


def check_weights(engine: Engine, oracle: Oracle, completion: Completion, grammar: Any) -> None:
    """Every token's numbers are the oracle's, and every field's are those of its tokens."""
    truth = true_weights(oracle, grammar, completion)
    tokens = completion.fields.tokens
    assert len(tokens) == len(completion.token_ids)
    for one, expected in zip(tokens, truth, strict=True):
        if one.is_scored:
            assert one[:3] == pytest.approx(expected, abs=2e-4)
        else:
            assert one.is_forced
    free = [weights for weights, one in zip(truth, tokens, strict=True) if not one.is_forced]
    whole = completion.fields[""]
    assert whole.logprob == pytest.approx(sum(one[0] for one in free), abs=1e-2)
    assert whole.model_logprob == pytest.approx(sum(one[1] for one in free), abs=1e-2)
    assert whole.free_tokens == len(free)
    assert whole.free_tokens + whole.forced_tokens == len(tokens)
    scored = [weights[2] for weights, one in zip(truth, tokens, strict=True) if one.is_scored]
    assert whole.log_allowed == pytest.approx(sum(scored), abs=1e-2)
    assert whole.max_removed == pytest.approx(1 - math.exp(min(scored)), abs=1e-3)


def every_way(engine: Engine, oracle: Oracle, grammar: Any, completion: Completion, path: str) -> dict[str, float]:
    """By brute force: the probability of each text that the value at a path may be, from the token on that it begins
    in, by walking through all that the grammar allows."""
    place = [part for part in path.replace("]", "").replace("[", ".").split(".") if part]
    text = completion.text
    value = json.loads(text)
    for part in place[:-1]:
        value = value[int(part)] if part.isdigit() else value[part]
    inner = json.dumps(place[-1]) + ": "
    start = len(text[: text.index(inner) + len(inner)].encode())
    pieces, first, size = texts_of(engine, completion.token_ids), 0, 0
    while size + len(pieces[first]) <= start:
        size += len(pieces[first])
        first += 1
    lead = text.encode()[size:start]
    before = completion.token_ids[:first]
    matcher = grammar.matcher()
    assert all(matcher.accept(token) for token in before)
    found: dict[str, float] = defaultdict(float)

    def walk(at: Any, ids: list[int], data: bytes, mass: float) -> None:
        rest = data[len(lead) :]
        for end in range(1, len(rest) + 1):  # a value is whole at its closing quote, its last letter, or after it
            if (rest[:end].endswith((b'"', b"e", b"l")) and end > 1) or rest[end : end + 1] in (b",", b"}"):
                try:
                    json.loads(rest[:end])
                except ValueError:
                    continue
                found[rest[:end].decode()] += mass
                return
        logits = oracle.after([*completion.prompt_token_ids, *before, *ids])
        tokens = allowed_by(at, len(logits))
        shares = np.exp(logits[tokens] - log_sum(logits[tokens]))
        for token, share in zip(tokens.tolist(), shares.tolist(), strict=True):
            after = at.fork()
            assert after.accept(token)
            walk(after, [*ids, token], data + texts_of(engine, [token])[0], mass * share)

    walk(matcher, [], b"", 1.0)
    return found


def shown(options: Any) -> dict[str, float]:
    return {json.dumps(value): mass for value, mass in options.items()}


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_every_number_is_that_of_brute_force_in_torch(engine: Engine, oracle: Oracle, temperature: float) -> None:
    params = SamplingParams(temperature=temperature, seed=3, confidence=EXACT)
    value, completion = engine.generate_with_completion(PROMPT, Cat, params)
    grammar = engine.form(Cat).grammar
    check_weights(engine, oracle, completion, grammar)
    fields = completion.fields
    assert set(fields) >= {"", "level", "ok", "n", "name", "tag", "lots", "lots[0]"}
    for path, chosen in (("level", value.level), ("ok", value.ok), ("tag", value.tag)):
        field = fields[path]
        assert shown(field.options) == pytest.approx(every_way(engine, oracle, grammar, completion, path), abs=1e-4)
        assert sum(field.options.values()) == pytest.approx(1, abs=1e-6)
        assert field.unresolved == 0
        assert field.chosen == chosen
        assert field.confidence == field.options[chosen]
    assert set(fields["level"].options) == {"high", "low", "lower"}
    assert set(fields["tag"].options) == {"a", "b", None}
    assert set(fields["lots[0]"].options) == {1, 10}
    assert sum(fields["lots", 0].options.values()) == pytest.approx(1, abs=1e-6)
    for path in ("n", "name", "lots", ""):
        assert fields[path].options is None
        assert fields[path].confidence == pytest.approx(math.exp(fields[path].logprob))


def test_the_tokens_of_a_value_are_those_that_hold_it(engine: Engine) -> None:
    _, completion = engine.generate_with_completion(PROMPT, Cat, confidence=True)
    pieces, tokens = texts_of(engine, completion.token_ids), completion.fields.tokens
    text = completion.text.encode()
    start = text.index(b'"name": ') + len(b'"name": ')
    end = text.index(b', "tag"')
    ends = np.cumsum([len(piece) for piece in pieces])
    inside = [i for i in range(len(pieces)) if ends[i] > start and ends[i] - len(pieces[i]) < end]
    field = completion.fields["name"]
    free = [tokens[i] for i in inside if not tokens[i].is_forced]
    assert field.logprob == pytest.approx(sum(one.logprob for one in free))
    assert field.free_tokens == len(free)
    assert field.forced_tokens == len(inside) - len(free)
    assert field.log_allowed == pytest.approx(sum(tokens[i].log_allowed for i in inside))
    assert 0 <= field.removed <= 1
    assert field.per_token >= field.confidence


class Fussy(BaseModel):
    ok: bool
    n: int = Field(ge=0, le=120)

    @field_validator("n")
    @classmethod
    def _big(cls, value: int) -> int:
        if value < 40:
            raise ValueError("too small")
        return value


def test_rewinds_leave_the_kept_tokens_and_are_told(engine: Engine, oracle: Oracle) -> None:
    rewound = 0
    for seed in range(6):
        params = SamplingParams(temperature=1.0, seed=seed, confidence=True)
        _, completion = engine.generate_with_completion(f"{PROMPT} {seed}", Fussy, params)
        count = sum(one.path == "n" for one in completion.rewinds)
        if len(completion.attempts) > 1:
            continue
        rewound += count
        assert completion.fields["n"].rejected == count
        assert completion.fields["ok"].rejected == 0
        check_weights(engine, oracle, completion, engine.form(Fussy).grammar)
    assert rewound > 0


def test_values_kept_of_an_earlier_attempt_keep_its_numbers(engine: Engine) -> None:
    class Once(Cat):
        @field_validator("n")
        @classmethod
        def _not_the_first(cls, value: int) -> int:
            seen.append(value)
            if len(seen) == 1:
                raise ValueError("another one")
            return value

    seen: list[int] = []
    params = SamplingParams(temperature=0.0, confidence=True)
    _, completion = engine.generate_with_completion(PROMPT, Once, params, on_invalid="reask")
    first = completion.attempts[0].response
    assert len(completion.attempts) == 2
    assert any(not one.is_scored for one in completion.fields.tokens)
    assert completion.fields["name"] == first.fields["name"]
    assert completion.fields["name"].confidence is not None
    assert completion.fields["n"] != first.fields["n"]
    assert completion.fields["n"].unscored_tokens == 0
    assert completion.fields[""].confidence is None  # part of it was never scored
    assert sum(completion.fields["level"].options.values()) == pytest.approx(1, abs=1e-4)


def test_text_that_was_accepted_unasked_counts_for_nothing(engine: Engine, oracle: Oracle) -> None:
    params = SamplingParams(temperature=0.0, forced="accept", confidence=EXACT)
    _, completion = engine.generate_with_completion(PROMPT, Cat, params)
    tokens = completion.fields.tokens
    assert any(not one.is_scored for one in tokens)
    assert completion.fields[""].unscored_tokens == 0
    check_weights(engine, oracle, completion, engine.form(Cat).grammar)
    assert sum(completion.fields["level"].options.values()) == pytest.approx(1)


def test_an_end_that_was_forced_has_no_confidence_but_its_options_have(engine: Engine) -> None:
    for size in range(engine.form(Cat).min_tokens, engine.form(Cat).min_tokens + 12):
        params = SamplingParams(temperature=0.0, max_tokens=size, confidence=True)
        _, completion = engine.generate_with_completion(PROMPT, Cat, params)
        whole = completion.fields[""]
        assert (whole.confidence is None) == (whole.unscored_tokens > 0)
        assert (whole.logprob is None) == (whole.model_logprob is None) == (whole.per_token is None)
        assert completion.fields["ok"].confidence is not None
        assert sum(completion.fields["ok"].options.values()) == pytest.approx(1)


def test_every_sort_of_answer_has_fields(engine: Engine) -> None:
    choice = engine.generate(PROMPT, SamplingParams(choice=["high", "low", "lo"], confidence=True))
    assert sum(choice.fields[""].options.values()) == pytest.approx(1, abs=1e-4)
    assert choice.fields[()].chosen == choice.text
    regex = engine.generate(PROMPT, SamplingParams(regex="[ab]{3}", confidence=True))
    assert list(regex.fields) == [""]
    assert regex.fields[""].confidence == pytest.approx(math.exp(sum(t.logprob for t in regex.fields.tokens)))
    plain = engine.generate(PROMPT, SamplingParams(max_tokens=5), confidence=True)
    assert plain.fields[""].removed == 0
    assert plain.fields[""].logprob == plain.fields[""].model_logprob
    assert plain.fields[""].free_tokens == 5
    schema = {"type": "object", "properties": {"a": {"type": ["boolean", "string"], "maxLength": 2}}, "required": ["a"]}
    given = engine.generate(PROMPT, SamplingParams(json_schema=schema, confidence=EXACT))
    assert set(given.fields["a"].options) == {True, False, OTHER}
    assert sum(given.fields["a"].options.values()) == pytest.approx(1)
    several = engine.generate(PROMPT, SamplingParams(choice=["high", "low"], n=3, seed=1, confidence=True))
    assert [one.fields[""].chosen for one in several.choices] == [one.text for one in several.choices]


def test_who_did_not_ask_is_told_how(engine: Engine) -> None:
    completion = engine.generate(PROMPT, SamplingParams(max_tokens=2))
    with pytest.raises(ParameterError, match="confidence=True"):
        _ = completion.fields
    with pytest.raises(ParameterError, match="generate_with_completion"):
        engine.generate(PROMPT, response_model=Cat, confidence=True)
    with pytest.raises(ParameterError, match="confidence"):
        SamplingParams(confidence="yes")
    with pytest.raises(ParameterError, match="max_rows"):
        ConfidenceOptions(max_rows=-1)
    asked = engine.generate_with_completion(PROMPT, Cat, confidence=True)[1]
    with pytest.raises(KeyError, match="'levle' is no value of the answer, which has '', 'level'"):
        asked.fields["levle"]
