"""The sum over ranks. One device plays all of them in one launch, so that the figures are those of its own memory."""

from __future__ import annotations

from functools import partial

from .case import BYTES, Case, Setup, Trial, of_type


def all_reduce(shape: str, *, ranks: int, n: int, two_shots: bool, type: str = "bf16") -> Case:
    """`n` numbers a rank; every rank gets the float sum in the order of the ranks, rounded once."""

    def prepare(s: Setup) -> Trial:
        values, out, scratch = s.normal(ranks, n), s.output(ranks, n), s.output(ranks, n)
        flags = s.torch.zeros(ranks, s.kernels.ask("pf_all_reduce_flags"), dtype=s.torch.int32, device=values.device)

        def check() -> str:
            total = s.torch.zeros(n, device=values.device)
            for rank in range(ranks):
                total += values[rank].float()
            return s.unequal("out", out, s.rounded(total).expand(ranks, n))

        arguments = (type, two_shots, values, out, scratch, flags, n, ranks)
        return Trial(partial(s.kernels.launch, "pf_all_reduce", *arguments), check, {"torch": lambda: values.sum(0)})

    kernel = of_type("all_reduce, two shots" if two_shots else "all_reduce, one shot", type)
    bytes_ = BYTES[type] * (2 * ranks * n + (2 * n if two_shots else 0))  # inputs, outputs, and sums between the shots
    return Case(kernel, shape, bytes_, ranks * n * (1 if two_shots else ranks), "fp32", prepare, type=type)
