"""Compiling and following grammars."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from benchmarks.walks import allowed
from pageform.core.errors import ParameterError, SchemaError
from pageform.core.params import SamplingParams
from pageform.forms.grammar import Grammar, GrammarCompiler, GrammarLimits, Matcher, fill_masks


def _follow(grammar: Grammar, compiler: GrammarCompiler, text: str) -> Matcher | None:
    """The matcher after a text, None if the grammar refuses it."""
    matcher = grammar.matcher()
    tokens = compiler.tokenizer.tokenize_str(text)
    return matcher if all(matcher.accept(token) for token in tokens) else None


def _admits(grammar: Grammar, compiler: GrammarCompiler, text: str) -> bool:
    matcher = _follow(grammar, compiler, text)
    return matcher is not None and matcher.is_accepting()


def _row(compiler: GrammarCompiler) -> Any:
    return np.full((compiler.vocab_size + 31) // 32, 0xFFFFFFFF, np.uint32)


@pytest.mark.parametrize(
    ("params", "good", "bad"),
    [
        ({"json_schema": {"type": "object", "properties": {"n": {"type": "integer"}}}}, '{"n": 1}', '{"n":1}'),
        ({"json_schema": '{"type":"array","items":{"type":"boolean"}}'}, "[true, false]", "[1]"),
        ({"json_schema": True}, '{"a": [1, {"b": null}]}', "{"),
        ({"regex": r"[a-c]{3}-\d{2}"}, "abc-12", "abc-1"),
        ({"choice": ["yes", "no", "yes and no"]}, "yes and no", "yes and"),
        ({"choice": ['quote " and \\', "tab\t\x00é😀"]}, "tab\t\x00é😀", "tab"),
        ({"choice": ["a.b", "(c|d)*"]}, "(c|d)*", "axb"),
        ({"grammar": 'start: "<" inner ">"\ninner: /[a-z]+/ | start'}, "<<ab>>", "<<ab>"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_grammars_of_sampling_params(params: dict[str, Any], good: str, bad: str, compiler: GrammarCompiler) -> None:
    grammar = compiler.compile_params(SamplingParams(**params))
    assert grammar is not None
    assert _admits(grammar, compiler, good)
    assert not _admits(grammar, compiler, bad)


def test_no_grammar_is_asked_for_by_default(compiler: GrammarCompiler) -> None:
    assert compiler.compile_params(SamplingParams()) is None


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("regex", "("),
        ("regex", "(?=a)"),
        ("regex", r"[^\s\S]"),
        ("regex", 3),
        ("regex", "\ud800"),
        ("lark", "start: undefined"),
        ("lark", "%%%"),
        ("lark", "start: A\nA: /a/ & /b/"),
        ("lark", "x" * (1 << 21)),
        ("choice", []),
        ("choice", "yes"),
        ("choice", [""]),
        ("choice", ["a", None]),
        ("choice", ["x"] * 100_000),
        ("json_schema", "{not json"),
        ("json_schema", "[" * 100_000),
        ("json_schema", "[1]"),
        ("json_schema", {"enum": [{1}]}),
        ("json_schema", False),
        ("json_schema", {"type": "object", "patternProperties": {"[": True}}),
        ("json_schema", {"description": "x" * (1 << 21)}),
    ],
    ids=lambda value: str(value)[:30],
)
def test_broken_empty_and_huge_grammars_are_refused_quickly(kind: str, content: Any, compiler: GrammarCompiler) -> None:
    start = time.monotonic()
    with pytest.raises(SchemaError) as caught:
        getattr(compiler, f"compile_{kind}")(content)
    assert time.monotonic() - start < 2
    assert caught.value.field == {"lark": "grammar"}.get(kind, kind)
    assert caught.value.remedy
    assert len(str(caught.value)) < 1500


def test_a_complete_text_allows_only_its_end(compiler: GrammarCompiler) -> None:
    matcher = _follow(compiler.compile_json_schema({"type": "boolean"}), compiler, "true")
    assert matcher is not None
    assert matcher.is_accepting()
    assert matcher.is_stopped()
    assert matcher.forced() == []
    row = _row(compiler)
    matcher.fill_mask(row)
    assert list(allowed(row)) == compiler.eos_ids
    assert matcher.accept(compiler.eos_ids[0])
    assert not matcher.accept(compiler.eos_ids[0])


def test_a_text_that_may_go_on_allows_its_end_too(compiler: GrammarCompiler) -> None:
    matcher = _follow(compiler.compile_regex(r"\d+"), compiler, "12")
    assert matcher is not None
    assert matcher.is_accepting()
    assert not matcher.is_stopped()
    row = _row(compiler)
    matcher.fill_mask(row)
    assert set(compiler.eos_ids) < set(allowed(row))
    assert matcher.accept(compiler.eos_ids[0])
    assert matcher.fork().is_stopped()
    masks = np.zeros((2, len(row)), np.uint32)
    fill_masks([(matcher, 1, []), (compiler.compile_regex("a").matcher(), 0, [])], masks)
    assert list(allowed(masks[1])) == compiler.eos_ids
    matcher.rollback(1)
    again = _row(compiler)
    matcher.fill_mask(again)
    assert (again == row).all()
    assert matcher.accept(compiler.eos_ids[0])
    matcher.rollback(2)
    assert not matcher.is_stopped()
    assert matcher.accept(compiler.tokenizer.tokenize_str("7")[0])


def test_an_incomplete_text_can_not_end(compiler: GrammarCompiler) -> None:
    matcher = compiler.compile_choice(["yes"]).matcher()
    assert not matcher.accept(compiler.eos_ids[0])
    assert not matcher.is_accepting()
    assert matcher.accept(compiler.tokenizer.tokenize_str("yes")[0])


def test_surplus_ids_and_special_tokens_are_never_allowed(compiler: GrammarCompiler) -> None:
    matcher = compiler.compile_regex(r"(?s:.*)").matcher()
    row = _row(compiler)
    matcher.fill_mask(row)
    ids = allowed(row)
    assert len(ids) > 40_000
    assert max(ids) < compiler.vocab_size - 96
    special = [t for t in range(20) if compiler.tokenizer.is_special_token(t) and t not in compiler.eos_ids]
    assert special
    assert not set(special) & set(ids)
    assert not matcher.accept(compiler.vocab_size - 1)
    assert matcher.accept(int(ids[-1])), "a refused token changes nothing"


def test_rollback_and_fork(compiler: GrammarCompiler) -> None:
    grammar = compiler.compile_json_schema({"type": "array", "items": {"type": "boolean"}})
    tokens = compiler.tokenizer.tokenize_str("[true, false]")
    matcher = grammar.matcher()
    before = []
    for token in tokens:
        row = _row(compiler)
        matcher.fill_mask(row)
        before.append(row)
        assert matcher.accept(token)
    other = matcher.fork()
    matcher.rollback(len(tokens))
    for token, row in zip(tokens, before, strict=True):
        again = _row(compiler)
        matcher.fill_mask(again)
        assert (again == row).all()
        assert matcher.accept(token)
    assert other.is_stopped()
    matcher.rollback(0)
    with pytest.raises(ValueError, match="take back"):
        grammar.matcher().rollback(1)


def test_forced_tokens_are_the_canonical_ones(compiler: GrammarCompiler) -> None:
    schema = {
        "type": "object",
        "properties": {"customer_name": {"type": "boolean"}},
        "required": ["customer_name"],
    }
    forced = compiler.compile_json_schema(schema).matcher().forced()
    assert forced
    assert forced == compiler.tokenizer.tokenize_str('{"customer_name": true}')[: len(forced)]


def test_masks_of_a_batch_equal_those_filled_one_by_one(compiler: GrammarCompiler) -> None:
    grammars = [compiler.compile_regex(f"[a-{end}]{{3}}") for end in "bcdefghij"]
    matchers = [(grammar.matcher(), index, []) for index, grammar in enumerate(grammars)]
    masks = np.zeros((12, (compiler.vocab_size + 31) // 32), np.uint32)
    fill_masks(matchers, masks)
    for matcher, index, _ in matchers:
        row = _row(compiler)
        matcher.fill_mask(row)
        assert (masks[index] == row).all()
    assert not masks[len(matchers) :].any()
    fill_masks([], masks)
    with pytest.raises(IndexError):
        fill_masks([(matchers[0][0], 12, [])], masks)
    with pytest.raises(ValueError, match="contiguous uint32"):
        fill_masks(matchers, masks.astype(np.int64))
    with pytest.raises(ValueError, match="contiguous uint32"):
        fill_masks(matchers, masks[:, ::2])


def test_a_grammar_that_grows_too_complex_spares_the_other_rows(make_compiler: Any, compiler: GrammarCompiler) -> None:
    tight = make_compiler(GrammarLimits(step_lexer_fuel=3_000))
    # Undecidable for long which of the repetitions a character belongs to: each step needs more fuel.
    costly = tight.compile_regex("(a|ab|abc|b|c){0,60}x[a-z]{0,40}y(.|..|...){0,60}z").matcher()
    easy = tight.compile_regex("a+b").matcher()
    masks = np.zeros((2, (compiler.vocab_size + 31) // 32), np.uint32)
    fault = None
    for token in tight.tokenizer.tokenize_str("abcabcabcabc" * 4):
        try:
            fill_masks([(costly, 0, []), (easy, 1, [])], masks)
        except SchemaError as error:
            fault = error
            break
        costly.accept(token)
    assert "too complex" in str(fault)
    assert len(allowed(masks[1])) > 1
    fill_masks([(easy, 1, [])], masks)


def test_equal_grammars_are_compiled_once_and_the_cache_is_bounded(make_compiler: Any) -> None:
    small = make_compiler(GrammarLimits(cached_grammars=2))
    first = small.compile_regex("a")
    assert small.compile_regex("a") is first
    for pattern in ("b", "c", "d"):
        small.compile_regex(pattern)
    assert small.compile_regex("a") is not first


def test_threads_share_grammars(compiler: GrammarCompiler) -> None:
    faults: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for index in range(30):
                grammar = compiler.compile_regex(f"[a-f]{{{index % 5 + 1}}}")
                matcher = grammar.matcher()
                row = _row(compiler)
                matcher.fill_mask(row)
                assert matcher.accept(int(allowed(row)[seed]))
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


def test_a_compiler_needs_tokens_that_end_a_text() -> None:
    for eos in ([], [-1], [100]):
        with pytest.raises(ParameterError) as caught:
            GrammarCompiler(lambda: "{}", 100, eos)
        assert caught.value.field == "eos_ids"


def test_a_broken_tokenizer_is_named() -> None:
    with pytest.raises(ParameterError) as caught:
        GrammarCompiler(lambda: "{}", 100, [1]).compile_regex("a")
    assert caught.value.field == "tokenizer"
