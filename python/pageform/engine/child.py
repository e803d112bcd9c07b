"""Asking again as a child of the request that failed: it shares that one's tokens and keeps the values that were valid.

    parent   prompt · answer
    child    prompt · answer · what was wrong · answer, of which only the values that failed are decoded

Prompt and answer are the parent's very tokens, so their blocks are in the prefix cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.completion import Completion
from ..core.params import SamplingParams
from ..forms.form import Form
from ..forms.kept import KeptText
from ..structured.answer import Answer
from ..structured.loop import Rejection
from ..structured.prompt import reask_messages, reask_suffix
from .prepare import Prompt, is_messages

if TYPE_CHECKING:
    from .base import BaseEngine


@dataclass(frozen=True, slots=True)
class Child:
    """A prompt in tokens that goes on where its parent ended. `shown` is the same for people."""

    ids: list[int]
    shown: Prompt
    kept: KeptText | None


def child_of(
    engine: BaseEngine,
    form: Form[Any],
    params: SamplingParams,
    parent: Prompt | Child,
    answer: Answer,
    rejection: Rejection,
) -> Child | None:
    """The child that asks again; None if there can't be one: the context is too short for it, or the chat template
    writes an earlier answer unlike the model did."""
    completion: Completion = answer.response
    tokenizer = engine.tokenizer
    said = completion.token_ids
    while said and said[-1] in tokenizer.special_ids:
        said = said[:-1]
    shown = parent.shown if isinstance(parent, Child) else parent
    if is_messages(shown):
        render = engine.parts.preparer.render_chat
        before = render(shown) + answer.text
        shown = reask_messages(shown, answer, rejection.text)
        whole = render(shown)
        if not whole.startswith(before):
            return None
        suffix = whole[len(before) :]
    else:
        suffix = reask_suffix(answer, rejection.text)
        shown = shown + suffix if isinstance(shown, str) else shown
        suffix = suffix[len(answer.text) :]
    ids = [*completion.prompt_token_ids, *said, *tokenizer.encode(suffix, add_special_tokens=False)]
    room = min(engine.max_model_len, engine.parts.core.scheduler.cache.capacity)
    if tokenizer.decode(said) != answer.text or len(ids) + (params.max_tokens or 2 * len(said)) >= room:
        return None
    kept = KeptText.of(form.check, answer.text, [fault.loc for fault in rejection.faults])
    return Child(ids, ids if isinstance(shown, list) and not is_messages(shown) else shown, kept)
