"""The GPU kernels one by one: what each needs at named shapes, whether it is right, and how near it comes.

    python -m benchmarks gpu_kernels                  the roofline on paper; runs the kernels if torch sees a GPU
    python -m benchmarks gpu_kernels --device simt    small shapes on the emulator: whether they are right

A kernel is compared with torch first, and timed only if it is right. Libraries are built with -DPAGEFORM_BENCHMARKS=ON
and found in the folders of PAGEFORM_BACKEND_PATH; what is missing is told with the command that builds it.
"""

from __future__ import annotations

from ..options import Options
from ..report import Report
from .case import H100, Case, Setup
from .library import KernelFailure, Kernels, Unavailable
from .measure import measure
from .shapes import named, small

HEAD = ("kernel", "shape", "MB", "GFLOP", "bound by", f"least time on an {H100.name}, µs")


def run(options: Options) -> Report:
    """A device that was asked for, or that torch sees, and whose kernels cannot be run is a check that failed."""
    settings = {"roofline of": H100.name, "memory": f"{H100.bandwidth / 1e12:g} TB/s"}
    settings |= {f"{kind} peak": f"{rate / 1e12:g} TFLOP/s" for kind, rate in H100.rates.items()}
    report = Report("gpu_kernels", dict(settings))
    device = options.device or _device_here()
    if device is None:
        report.note("torch sees no GPU here: the figures are arithmetic, nothing was run")
        report.table(HEAD, [roofline_row(case) for case in named()])
        return report
    try:
        kernels = Kernels(device)
    except Unavailable as why:
        report.check(f"the kernels run on {device}: {why}", False)
        return report
    report.settings["device"] = kernels.describe()
    if device == "simt":
        _check_small(report, kernels, options.seed)
    else:
        try_named(report, kernels, options)
    kernels.close()
    return report


def try_named(report: Report, kernels: Kernels, options: Options) -> None:
    """Every named case: whether it is right and, if it is, its time and that of others."""
    rows = []
    for case in named():
        row = [*roofline_row(case), "", "", ""]
        if why := case.lacks(kernels):
            row[6] = why
        else:
            row[6:] = _tried(report, kernels, case, options)
        rows.append(row)
    report.table((*HEAD, "µs", "of the roofline", "others, µs"), rows)


def roofline_row(case: Case) -> list[str]:
    """What the table on paper says of a case."""
    microseconds = 1e6 * case.seconds(H100)
    return [
        case.kernel,
        case.shape,
        f"{case.bytes / 1e6:,.2f}",
        f"{case.flops / 1e9:,.2f}",
        case.bound(H100),
        f"{microseconds:,.1f}" if microseconds >= 0.1 else f"{microseconds:.3f}",
    ]


def _device_here() -> str | None:
    try:
        import torch
    except ModuleNotFoundError:
        return None
    if not torch.cuda.is_available():
        return None
    return "hip" if torch.version.hip else "cuda"


def verdict(kernels: Kernels, case: Case, seed: int) -> str:
    """How the case's output differs from the reference's; empty if it does not."""
    trial = case.prepare(Setup(kernels, seed, case.type))
    kernels.wait_for_torch()
    try:
        trial.launch()
        kernels.synchronize()
    except KernelFailure as error:
        return str(error)
    return trial.check()


def _check_small(report: Report, kernels: Kernels, seed: int) -> None:
    for case in small():
        if why := case.lacks(kernels):
            report.note(f"{case.kernel}, {case.shape}: {why}")
            continue
        wrong = verdict(kernels, case, seed)
        report.check(f"{case.kernel}, {case.shape}: {wrong or 'equals the reference'}", not wrong)
    report.note("the emulator's time says nothing of a GPU's, so none was taken")


def _tried(report: Report, kernels: Kernels, case: Case, options: Options) -> list[str]:
    """Time, share of the roofline and others' times of a case that is right."""
    import torch

    torch.cuda.empty_cache()
    trial = case.prepare(Setup(kernels, options.seed, case.type))
    kernels.wait_for_torch()
    try:
        trial.launch()
        kernels.synchronize()
    except KernelFailure as error:
        report.check(f"{case.kernel}, {case.shape}: {error}", False)
        return ["failed", "", ""]
    wrong = trial.check()
    report.check(f"{case.kernel}, {case.shape}: {wrong or 'equals the reference'}", not wrong)
    if wrong:
        return ["wrong", "", ""]
    samples = measure(kernels, trial.launch, 3 if options.smoke else 20)
    report.record(f"{case.kernel}, {case.shape}", "µs", samples)
    middle = sorted(samples)[len(samples) // 2]
    others = []
    for name, peer in trial.peers.items():
        try:
            times = measure(kernels, peer, 3 if options.smoke else 20)
        except (ImportError, AttributeError, RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            others.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:80] if str(error) else ''}")
        else:
            others.append(f"{name}: {sorted(times)[len(times) // 2]:.1f}")
    return [f"{middle:.1f}", f"{1e8 * case.seconds(H100) / middle:.0f} %", "; ".join(others)]


__all__ = ["roofline_row", "run", "try_named", "verdict"]
