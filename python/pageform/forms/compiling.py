"""A plan compiled for a tokenizer, whatever the tokenizer comes as."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import ParameterError
from .lru import Lru
from .plan import Plan

if TYPE_CHECKING:
    from .form import Form
    from .grammar import GrammarCompiler

_END_NAMES = ("<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>", "</s>", "<eos>", "[SEP]")
"""What tokens that end a text are called, for a bare vocabulary that does not say which one does."""

_compilers: Lru[tuple[Any, GrammarCompiler]] = Lru(4)
"""With the tokenizer that each was made of, so that its id stays its own. Making one takes half a second."""


def compile(plan: Plan, tokenizer: Any, eos_ids: Sequence[int] | None = None) -> Form[Any]:
    """The form of a plan for one tokenizer.

    `tokenizer` is an engine's `tokenizer`, one of the libraries tokenizers or transformers (a fast one), a
    tokenizer.json or its folder, a model as `Engine` takes one, or a `GrammarCompiler`. `eos_ids` are the tokens that
    end a text, where the tokenizer does not know them. The grammars of a tokenizer are kept, so that the same plan
    compiles once. Raises `SchemaError` for what can't be compiled within the limits, `ParameterError` for what is no
    tokenizer.

    An `Engine` makes forms of its own by `engine.form(type or plan)`: its masks are as wide as its model's logits.
    """
    from .form import Form
    from .grammar import GrammarCompiler

    if not isinstance(plan, Plan):
        raise ParameterError("plan", plan, "is not a Plan", "Make one with pageform.forms.plan(type_or_schema).")
    compiler = tokenizer if isinstance(tokenizer, GrammarCompiler) else _compiler(tokenizer, eos_ids)
    return Form.of(plan, compiler)


def _compiler(tokenizer: Any, eos_ids: Sequence[int] | None) -> GrammarCompiler:
    """The compiler of a tokenizer; the last ones are kept."""
    named = isinstance(tokenizer, (str, Path))
    size = None if named else _size(tokenizer)
    key = (str(tokenizer) if named else id(tokenizer), size, None if eos_ids is None else tuple(eos_ids))

    def make() -> tuple[Any, GrammarCompiler]:
        from .grammar import GrammarCompiler

        return tokenizer, GrammarCompiler(*_described(tokenizer, eos_ids))

    return _compilers.get(key, make)[1]


def _described(tokenizer: Any, eos_ids: Sequence[int] | None) -> tuple[Callable[[], str], int, Sequence[int]]:
    """(what gives the text of its tokenizer.json, number of tokens, tokens that end a text)."""
    if isinstance(tokenizer, (str, Path)):
        tokenizer = _loaded(Path(tokenizer))
    bare = getattr(tokenizer, "hf", getattr(tokenizer, "backend_tokenizer", tokenizer))  # ours, or transformers'
    size = _size(tokenizer)
    if size is None or not callable(getattr(bare, "to_str", None)):
        remedy = "Give engine.tokenizer, a tokenizers.Tokenizer, a fast tokenizer of transformers, or a tokenizer.json."
        raise ParameterError("tokenizer", tokenizer, "is no tokenizer that grammars can be made for", remedy)
    if eos_ids is None:
        eos_id = getattr(tokenizer, "eos_token_id", None)
        eos_ids = getattr(tokenizer, "eos_ids", None) or ([eos_id] if isinstance(eos_id, int) else _likely_ends(bare))
    return bare.to_str, size, eos_ids


def _loaded(path: Path) -> Any:
    from ..text.load import load_tokenizer, read_tokenizer
    from ..weights import open_checkpoint

    if path.name == "tokenizer.json" or (path / "tokenizer.json").is_file():
        return read_tokenizer(path)
    return load_tokenizer(open_checkpoint(str(path)))


def _size(tokenizer: Any) -> int | None:
    """Number of tokens, those that were added among them; None for what is no tokenizer."""
    tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
    count = getattr(tokenizer, "get_vocab_size", None)
    size = count(with_added_tokens=True) if callable(count) else getattr(tokenizer, "vocab_size", None)
    return size if isinstance(size, int) else None


def _likely_ends(hf: Any) -> list[int]:
    found = [token for name in _END_NAMES if (token := hf.token_to_id(name)) is not None]
    if not found:
        reason, remedy = "does not say which token ends a text", "Name its id in eos_ids."
        raise ParameterError("tokenizer", hf, reason, remedy)
    return found
