"""The executor that is a function call: the native runner in this process."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import BackendError
from ..core.plan import RowPlan, RowResult, StepPlan, StepResult
from .arrays import KeptArrays, build_inputs, build_sampling, read_rows
from .base import MaskGate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..models.loader import LoadedModel


class InProcessExecutor:
    """Runs steps with a `LoadedModel`'s runner; one native call a step, with the GIL released."""

    def __init__(self, model: LoadedModel) -> None:
        self._model: LoadedModel | None = model
        self._kept = KeptArrays()

    @property
    def model(self) -> LoadedModel:
        """The worker. Raises BackendError after `stop`."""
        if self._model is None:
            raise BackendError("the executor was stopped")
        return self._model

    def execute(
        self, plan: StepPlan, masks: NDArray[np.uint32] | None = None, gate: MaskGate | None = None
    ) -> StepResult:
        """See `Executor.execute`."""
        inputs = build_inputs(plan, self.model.block_size, masks, self._kept)
        out = self.model.run(inputs, gate)
        rows = [row for seq in plan.seqs for row in seq.rows]
        result = StepResult(plan.step_id, read_rows(rows, out), seconds=out.seconds)
        deferred = [i for i, row in enumerate(rows) if row.sampling.defer and row.target < 0]
        if deferred:
            logits = out.numpy().logits
            assert logits is not None
            result.logits = {i: logits[i].copy() for i in deferred}
        return result

    def sample(
        self, rows: Sequence[RowPlan], logits: NDArray[np.float32], masks: NDArray[np.uint32] | None = None
    ) -> list[RowResult]:
        """See `Executor.sample`."""
        sampling = build_sampling(rows, masks, self._kept.constants)
        sampling.defer = array("B", bytes(len(rows)))
        return read_rows(rows, self.model.sample(sampling, logits))

    def mask_gate(self) -> MaskGate:
        """See `Executor.mask_gate`."""
        gate: MaskGate = self.model.make_gate()
        return gate

    def call(self, method: str, *args: Any) -> Any:
        """See `Executor.call`; methods are those of `LoadedModel`."""
        return getattr(self.model, method)(*args)

    def health(self) -> bool:
        """True until stopped: an in-process worker lives and dies with its process."""
        return self._model is not None

    def stop(self) -> None:
        """Drops the model, which frees weights, cache and threads."""
        self._model = None
