"""What a benchmark found: figures with their spread, and the requirements that were checked against them."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).with_name("results")
INSTRUCTIONS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8")
"""Instruction sets, as Linux calls them, that decide which kernels an engine takes."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured quantity: all its samples, in the order they were taken."""

    name: str
    unit: str
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def __str__(self) -> str:
        text = f"{self.name}: {_short(self.median)} {self.unit}".rstrip()
        if len(self.samples) > 1:
            text += f" (median of {len(self.samples)}; {_short(min(self.samples))} … {_short(max(self.samples))})"
        return text


@dataclass(frozen=True, slots=True)
class Check:
    """A requirement and whether it held."""

    text: str
    held: bool

    def __str__(self) -> str:
        return f"{'held' if self.held else 'MISSED'}: {self.text}"


@dataclass(slots=True)
class Report:
    """The result of one benchmark. `notes` say what a reader must know to judge the figures."""

    name: str
    settings: dict[str, object]
    figures: list[Figure] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tables: list[list[list[str]]] = field(default_factory=list)
    records: list[Figure] = field(default_factory=list)
    pictures: dict[str, dict[str, bytes]] = field(default_factory=dict, repr=False)
    began: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))
    """Names the files, so that a report can be saved again as it grows."""

    def add(self, name: str, unit: str, samples: float | Sequence[float]) -> Figure:
        """Adds a figure with one sample or several, and returns it."""
        figure = Figure(name, unit, (float(samples),) if isinstance(samples, (int, float)) else tuple(samples))
        self.figures.append(figure)
        return figure

    def record(self, name: str, unit: str, samples: Sequence[float]) -> None:
        """Keeps samples for the file alone; what is read of them stands in a table."""
        self.records.append(Figure(name, unit, tuple(samples)))

    def picture(self, name: str, contents: dict[str, bytes]) -> None:
        """Adds a picture in one or several formats, by suffix; written when the report is saved."""
        self.pictures[name.replace(" ", "-")] = contents

    def check(self, text: str, held: bool) -> None:
        self.checks.append(Check(text, held))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Adds a table of text; each row is as long as the head."""
        self.tables.append([list(head), *map(list, rows)])

    @property
    def passed(self) -> bool:
        return all(check.held for check in self.checks)

    def markdown(self) -> str:
        """A section with a list; also what is printed."""
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        lines = [f"## {self.name}", "", settings, ""]
        lines += [f"- {line}" for line in (*self.figures, *self.checks, *self.notes)]
        for head, *rows in self.tables:
            lines += ["", *(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))]
        return "\n".join(lines) + "\n"

    def save(self, folder: Path = RESULTS) -> Path:
        """Writes `<date>-<name>.json` and `.md`; returns the path without suffix."""
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / f"{self.began:%Y%m%d-%H%M%S}-{self.name}"
        for name, contents in self.pictures.items():
            for suffix, data in contents.items():
                (folder / f"{stem.name}-{name}{suffix}").write_bytes(data)
        plain = {key: value for key, value in asdict(self).items() if key not in ("pictures", "began")}
        content = {"time": self.began.isoformat(timespec="seconds"), "machine": machine(), **plain}
        stem.with_suffix(".json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        shown = "".join(f"\n![{name}]({stem.name}-{name}.png)\n" for name in self.pictures)
        heading = f"# {self.began:%Y-%m-%d %H:%M} UTC\n\n{', '.join(f'{k} {v}' for k, v in machine().items())}\n\n"
        stem.with_suffix(".md").write_text(heading + self.markdown() + shown, encoding="utf-8")
        return stem


def processor() -> dict[str, str]:
    """What Linux tells of a processor, by its own names; empty on other systems."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def machine() -> dict[str, str]:
    """What the figures depend on besides pageform."""
    told = processor()
    flags = told.get("flags", "").split()
    described = {"cpu": told.get("model name", platform.machine())}
    described |= {"instructions": " ".join(name for name in INSTRUCTIONS if name in flags)} if flags else {}
    described |= {"cores": str(len(os.sched_getaffinity(0))), "python": platform.python_version()}
    for package in ("pageform", "torch", "transformers"):
        try:
            described[package] = version(package)
        except PackageNotFoundError:
            continue
    return described


def _short(value: float) -> str:
    """Three significant digits, without an exponent for everyday numbers."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value)}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
