"""Forms: type, grammar and lower bound together."""

from __future__ import annotations

import random
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from benchmarks.walks import walk
from pageform.core.errors import SchemaError
from pageform.forms.form import Form
from pageform.forms.grammar import GrammarCompiler
from pageform.structured import Spec


class Line(BaseModel):
    article: str
    price: float


class Bill(BaseModel):
    customer_name: str
    paid: bool
    lines: list[Line] = Field(min_length=2, max_length=4)


class Big(BaseModel):
    text: str = Field(min_length=2000, max_length=3000)


def test_a_form_admits_json_in_order_with_a_space_behind_comma_and_colon(compiler: GrammarCompiler) -> None:
    form = Form.of(Bill, compiler)
    line = '{"article": "a", "price": 1.5}'
    assert form.accepts(f'{{"customer_name": "Ann", "paid": true, "lines": [{line}, {line}]}}')
    for wrong in (
        f'{{"customer_name": "Ann", "paid": true, "lines": [{line}]}}',
        f'{{"customer_name": "Ann", "paid": true, "lines": [{line}, {line}]',
        f'{{"paid": true, "customer_name": "Ann", "lines": [{line}, {line}]}}',
        f'{{"customer_name":"Ann", "paid": true, "lines": [{line}, {line}]}}',
        f'{{"customer_name": "Ann", "paid": true, "lines": [{line},{line}]}}',
        f'{{"customer_name": "Ann",  "paid": true, "lines": [{line}, {line}]}}',
        f'{{"customer_name": "Ann", "paid": true, "lines": [{line}, {line}], "more": 1}}',
        "",
    ):
        assert not form.accepts(wrong)


def test_forms_are_kept_by_type(compiler: GrammarCompiler) -> None:
    assert Form.of(Bill, compiler) is Form.of(Bill, compiler) is Form.of(Spec.of(Bill), compiler)
    assert Form.of(Literal[1], compiler) is not Form.of(Literal[True], compiler)
    assert Form.of(Literal[True], compiler).accepts("true")
    unhashable = Annotated[int, Field(ge=1, json_schema_extra={"note": []})]
    assert Form.of(unhashable, compiler).accepts("1")


def test_faults_name_the_response_model(compiler: GrammarCompiler) -> None:
    with pytest.raises(SchemaError) as caught:
        Form.of(Annotated[int, Field(gt=1, lt=1)], compiler)
    assert caught.value.field == "response_model"


SHORTEST = '{"customer_name": "", "paid": true, "lines": [{"article": "", "price": 0}, {"article": "", "price": 0}]}'


@pytest.mark.parametrize(
    ("annotation", "least"),
    [
        (int, 1),
        (Literal["a", "bc"], 1),
        (Big, 20),
        (list[int], 1),
        (Any, 1),
        (Annotated[list[Bill], Field(min_length=20)], 360),
    ],
    ids=str,
)
def test_the_shortest_answer(annotation: Any, least: int, compiler: GrammarCompiler) -> None:
    form = Form.of(annotation, compiler)
    assert least <= form.min_tokens <= form.plan.min_tokens
    shortest = form.grammar.shortest(compiler.vocabulary)
    assert shortest is not None
    assert len(shortest) == form.min_tokens
    form.spec.validate(compiler.tokenizer.decode_str(shortest))


@pytest.mark.parametrize("annotation", [Bill, Line, list[Line], dict[str, Line], Bill | Line | None], ids=str)
def test_hardly_any_answer_has_fewer_tokens_than_the_shortest(annotation: Any, compiler: GrammarCompiler) -> None:
    """The search goes by bytes, and a longer text may have a token or two fewer."""
    form = Form.of(annotation, compiler)
    rng = random.Random(3)
    for _ in range(5):
        text = walk(form.grammar, compiler, rng).encode()
        assert _fewest(text, compiler) >= form.min_tokens - 2


def _fewest(text: bytes, compiler: GrammarCompiler) -> int:
    """The fewest vocabulary entries that a text can be cut into (by dynamic programming, independent of the bound)."""
    tokenizer = compiler.tokenizer
    entries = {bytes(tokenizer.decode_bytes([token])) for token in range(tokenizer.vocab_size)}
    longest = max(map(len, entries))
    best = [0]
    for end in range(1, len(text) + 1):
        starts = range(max(0, end - longest), end)
        best.append(1 + min(best[start] for start in starts if text[start:end] in entries))
    return best[-1]
