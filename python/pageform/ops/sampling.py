"""The arrays that say how the rows of logits of one step are sampled, and the arrays the answers are written to.

They are C-contiguous buffers of any kind: NumPy's, the standard library's, memoryviews. NumPy is not imported for them,
since that takes as long as reading a small model. Both mirror `PfSampling` and `PfSampled` of csrc/runtime/backend.h
field by field: R rows of logits, V = `vocab`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

F32: TypeAlias = Any
I32: TypeAlias = Any
U32: TypeAlias = Any
U64: TypeAlias = Any
U8: TypeAlias = Any
"""Arrays by their elements: what a checker of types has no common name for."""


@dataclass(slots=True)
class SamplingInputs:
    """How each row is sampled; arrays are [R] unless a shape is given.

    Groups are optional as wholes: `mask_row` with `masks`, the three `bias_*`, the three `count_*`.
    """

    temperature: F32
    """0 is greedy."""
    top_p: F32
    min_p: F32
    top_k: I32
    """0 is off."""
    repetition: F32
    presence: F32
    frequency: F32
    seed: U64
    stream: U32
    position: U32
    num_logprobs: I32
    """-1 none, 0 the chosen token's, k also the k most likely."""
    target: I32
    """-1 samples; otherwise this token is scored."""
    defer: U8
    """1 copies the row's logits out and samples nothing."""
    mask_row: I32 | None = None
    """Row of `masks`, or -1."""
    masks: U32 | None = None
    """[M, ceil(V / 32)]; bit t % 32 of word t // 32 is 1 where token t is allowed."""
    bias_start: I32 | None = None
    """[R + 1] into `bias_tokens`, `bias_values`."""
    bias_tokens: I32 | None = None
    bias_values: F32 | None = None
    count_start: I32 | None = None
    """[R + 1] into `count_tokens`, `count_values`."""
    count_tokens: I32 | None = None
    count_values: I32 | None = None
    weigh: U8 | None = None
    """1 also measures the probability mass that the row's mask allows."""
    vocab: int = 0
    """Columns that are real tokens; 0 means all of them."""

    @property
    def max_logprobs(self) -> int:
        """Width of the tables of alternatives."""
        return max(0, max(self.num_logprobs, default=0))

    def numpy(self) -> SamplingInputs:
        """The same with NumPy arrays over the same memory."""
        return replace(self, **_numpy_fields(self))

    @classmethod
    def greedy(cls, rows: int, **changes: Any) -> SamplingInputs:
        """Rows that all take their most likely token; `changes` replace single fields (arrays or scalars)."""
        import numpy as np

        neutral: dict[str, Any] = {name: value for name, (_, value) in ROW_FIELDS.items()}
        fields = neutral | changes
        for name, (dtype, _) in ROW_FIELDS.items():
            if np.isscalar(fields[name]):
                fields[name] = np.full(rows, fields[name], dtype)
        return cls(**fields)


ROW_FIELDS: dict[str, tuple[str, float]] = {
    "temperature": ("float32", 0.0),
    "top_p": ("float32", 1.0),
    "min_p": ("float32", 0.0),
    "top_k": ("int32", 0),
    "repetition": ("float32", 1.0),
    "presence": ("float32", 0.0),
    "frequency": ("float32", 0.0),
    "seed": ("uint64", 0),
    "stream": ("uint32", 0),
    "position": ("uint32", 0),
    "num_logprobs": ("int32", -1),
    "target": ("int32", -1),
    "defer": ("uint8", 0),
}
"""Element type and neutral value of every [R] field."""


ROW_OK, ROW_NONFINITE, ROW_MASK_EMPTY = 0, 1, 2
"""Values of `Sampled.status`."""


@dataclass(slots=True)
class Sampled:
    """What came of each row."""

    ids: I32
    """[R]; -1 where the status is not ROW_OK or the row was deferred."""
    logprobs: F32
    """[R] raw log-probability of `ids`."""
    ranks: I32
    """[R] 1-based rank of `ids`, where num_logprobs >= 0, else 0."""
    top_ids: I32
    """[R, max_logprobs]"""
    top_logprobs: F32
    status: U8
    log_allowed: F32
    """[R] log of the raw probability mass that the row's mask allows, where `weigh` is set, else 0."""
    allowed_logprobs: F32
    """[R] log-probability of `ids` among what the mask allows, where `weigh` is set, else 0."""
    logits: F32 | None = None
    """[R, V] raw logits of deferred rows (all rows with `copy_logits`); other rows are 0."""
    seconds: float = 0.0
    """What the step took on its device, where that is known: waiting for Python's lock is no part of it."""

    @classmethod
    def empty(cls, rows: int, max_logprobs: int, vocab: int, with_logits: bool) -> Sampled:
        """Answers not yet written: ids -1, everything else 0."""
        import numpy as np

        return cls(
            ids=np.full(rows, -1, np.int32),
            logprobs=np.zeros(rows, np.float32),
            ranks=np.zeros(rows, np.int32),
            top_ids=np.full((rows, max_logprobs), -1, np.int32),
            top_logprobs=np.zeros((rows, max_logprobs), np.float32),
            status=np.zeros(rows, np.uint8),
            log_allowed=np.zeros(rows, np.float32),
            allowed_logprobs=np.zeros(rows, np.float32),
            logits=np.zeros((rows, vocab), np.float32) if with_logits else None,
        )

    def numpy(self) -> Sampled:
        """The same with NumPy arrays over the same memory."""
        return replace(self, **_numpy_fields(self))


def _numpy_fields(arrays: SamplingInputs | Sampled) -> dict[str, Any]:
    import numpy as np

    named = {field.name: getattr(arrays, field.name) for field in fields(arrays)}
    return {name: np.asarray(value) for name, value in named.items() if not isinstance(value, int | float | type(None))}
