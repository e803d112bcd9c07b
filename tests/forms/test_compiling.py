"""`plan` and `compile`, as a user calls them, for every way that a tokenizer comes in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, Field

from pageform import forms
from pageform.core.errors import ParameterError, SchemaError
from pageform.forms.grammar import GrammarCompiler
from pageform.text import Tokenizer, load_tokenizer
from pageform.weights import open_checkpoint


class Bill(BaseModel):
    customer: str = Field(max_length=20)
    paid: bool


class Checked(BaseModel):
    even: Annotated[int, AfterValidator(lambda value: value)]


@pytest.fixture(scope="module")
def tokenizer(smollm2_path: Path) -> Tokenizer:
    loaded = load_tokenizer(open_checkpoint(str(smollm2_path)))
    assert loaded is not None
    return loaded


@pytest.fixture(scope="module")
def folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    (path / "tokenizer.json").write_text(tokenizer.to_json())
    return path


def sources(tokenizer: Tokenizer, folder: Path, compiler: GrammarCompiler, model: Path) -> dict[str, Any]:
    from transformers import PreTrainedTokenizerFast

    return {
        "ours": tokenizer,
        "tokenizers": tokenizer.hf,
        "transformers": PreTrainedTokenizerFast(tokenizer_object=tokenizer.hf, eos_token="<|im_end|>"),
        "file": folder / "tokenizer.json",
        "folder": str(folder),
        "model": model,
        "compiler": compiler,
    }


@pytest.mark.parametrize("kind", ["ours", "tokenizers", "transformers", "file", "folder", "model", "compiler"])
def test_a_plan_compiles_for_every_kind_of_tokenizer(
    kind: str, tokenizer: Tokenizer, folder: Path, compiler: GrammarCompiler, smollm2_path: Path
) -> None:
    given = sources(tokenizer, folder, compiler, smollm2_path)[kind]
    planned = forms.plan(Bill)
    form = forms.compile(planned, given)
    assert isinstance(form, forms.Form)
    assert form.plan is planned
    assert form.accepts('{"customer": "Ann", "paid": true}')
    assert not form.accepts('{"customer": "Ann", "paid": 1}')
    assert 1 < form.min_tokens <= planned.min_tokens <= 33
    assert form.spec.validate('{"customer": "Ann", "paid": true}') == Bill(customer="Ann", paid=True)
    assert forms.compile(forms.plan(Bill), given).grammar is form.grammar, "it is kept by content"


def test_json_schemas_compile_as_well(tokenizer: Tokenizer) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "null"}}, "required": ["b"]}
    form = forms.compile(forms.plan(schema), tokenizer)
    assert form.accepts('{"b": null}')
    assert form.accepts('{"a": 1, "b": null}')
    assert form.spec.validate('{"a": 1, "b": null}') == {"a": 1, "b": None}
    assert forms.compile(forms.plan(True), tokenizer).accepts('[1, {"x": "y"}]')


def test_what_is_no_plan_or_tokenizer_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ParameterError, match=r"forms\.plan"):
        forms.compile(Bill, tokenizer)  # type: ignore[arg-type]
    for wrong in (None, 3, object()):
        with pytest.raises(ParameterError) as caught:
            forms.compile(forms.plan(Bill), wrong)
        assert caught.value.field == "tokenizer"


def test_a_vocabulary_without_an_end_has_to_name_one() -> None:
    import tokenizers

    signs = [*sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()), "over"]
    hf = tokenizers.Tokenizer(tokenizers.models.BPE({sign: number for number, sign in enumerate(signs)}, []))
    hf.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    hf.decoder = tokenizers.decoders.ByteLevel()
    with pytest.raises(ParameterError, match="eos_ids"):
        forms.compile(forms.plan(Bill), hf)
    assert forms.compile(forms.plan(Bill), hf, eos_ids=[256]).accepts('{"customer": "", "paid": false}')


def test_a_full_guarantee_is_refused_where_validation_checks_more(compiler: GrammarCompiler) -> None:
    forms.Form.of(Bill, compiler, "full")
    forms.plan(Bill).promise("full")
    for attempt in range(2):  # made anew, and kept
        with pytest.raises(SchemaError, match=r'guarantee="full".*even: validator') as caught:
            forms.Form.of(Checked, compiler, "full")
        assert caught.value.field == "response_model"
        if attempt == 0:
            forms.Form.of(Checked, compiler)
    with pytest.raises(ParameterError, match="unknown"):
        forms.plan(Bill).promise("some")  # type: ignore[arg-type]
