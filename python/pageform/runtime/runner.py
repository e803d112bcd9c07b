"""The native runner: one program on one backend device, one native call a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ..ops.sampling import F32, Sampled
from .inputs import StepInputs
from .program import Program

if TYPE_CHECKING:
    from .. import _native


class Gate(Protocol):
    """What a step waits at before it reads grammar masks: a `_native.MaskGate`, used for one step."""

    def wait(self) -> bool:
        """Blocks until the masks are complete; False when they could not be filled."""
        ...

    @property
    def failure(self) -> str:
        """Why they could not be filled."""
        ...


class Runner(Protocol):
    """What executors run steps on."""

    def run(self, inputs: StepInputs, gate: Gate | None = None) -> Sampled:
        """Runs one step, blocks until it is done. ValueError for inputs that do not fit; then nothing has happened."""
        ...

    def feed(self, name: str, values: F32) -> None:
        """Sets an external input for the following runs."""
        ...

    def fetch(self, name: str) -> F32:
        """An external output of the last run."""
        ...


class NativeRunner:
    """Runs a program on a backend device.

    `weights` and `vectors` (float32 buffers) answer the program's requests in order. `kv` may be None for a program
    without a cache. The arena is planned for steps of up to `max_tokens`, `max_seqs`, `max_rows`. ValueError: the
    program is not valid or does not fit its weights; BackendError: the backend lacks one of its ops.
    """

    def __init__(
        self,
        device: _native.Device,
        program: Program,
        weights: Sequence[_native.Weight],
        vectors: Sequence[F32],
        kv: _native.KvCache | None,
        *,
        max_tokens: int,
        max_seqs: int,
        max_rows: int,
        lower: bool = True,
    ) -> None:
        from .. import _native

        self._runner = _native.Runner(
            device,
            program.describe(),
            list(weights),
            list(vectors),
            kv,
            max_tokens=max_tokens,
            max_seqs=max_seqs,
            max_rows=max_rows,
            lower=lower,
        )

    def run(self, inputs: StepInputs, gate: Gate | None = None) -> Sampled:
        """Runs one step without the GIL; other threads may fill its masks and open its gate meanwhile."""
        return Sampled(**self._runner.run(inputs, gate))

    def feed(self, name: str, values: F32) -> None:
        """Sets an external input for the following runs."""
        self._runner.feed(name, values)

    def fetch(self, name: str) -> F32:
        """An external output of the last run."""
        values: F32 = self._runner.fetch(name)
        return values

    @property
    def op_names(self) -> list[str]:
        """Names of the ops as they run, after lowering."""
        return list(self._runner.op_names)

    @property
    def arena_bytes(self) -> int:
        """Memory planned for all buffers of the largest step."""
        return int(self._runner.arena_bytes)
