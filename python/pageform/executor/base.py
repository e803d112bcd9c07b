"""The contract of executors (see DESIGN: executors). An executor runs steps; it knows nothing of requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..core.plan import RowPlan, RowResult, StepPlan, StepResult
from ..runtime.runner import Gate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class MaskGate(Gate, Protocol):
    """Tells a running step that the grammar masks it was given are written (`open`) or will never be (`fail`)."""

    def open(self) -> None: ...

    def fail(self, message: str) -> None: ...

    @property
    def waited(self) -> float:
        """Seconds that the step waited for the masks."""
        ...


class Executor(Protocol):
    """Runs the plans of one scheduler, one at a time, in order."""

    def execute(
        self, plan: StepPlan, masks: NDArray[np.uint32] | None = None, gate: MaskGate | None = None
    ) -> StepResult:
        """Runs one step. `masks` [n, ceil(vocab/32)] may still be being written until `gate` opens.

        Raises BackendError (or ValueError for a malformed plan); the step then changed nothing that counts.
        """
        ...

    def sample(
        self, rows: Sequence[RowPlan], logits: NDArray[np.float32], masks: NDArray[np.uint32] | None = None
    ) -> list[RowResult]:
        """Samples rows whose logits [rows, vocab] were processed in Python."""
        ...

    def mask_gate(self) -> MaskGate:
        """A fresh gate for one step."""
        ...

    def call(self, method: str, *args: Any) -> Any:
        """Calls a maintenance method of the worker by name, such as `describe`."""
        ...

    def health(self) -> bool:
        """Whether steps can run."""
        ...

    def stop(self) -> None:
        """Frees the worker's resources. Idempotent."""
        ...
