"""Whether speed was bought with accuracy: calls of BFCL and entities of wnut17, asked of all engines alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..job import Answer, Job
from .measure import EXACT, F1
from .sanity import Decode, text_of
from .workloads import Batches, Material, Workload

BFCL, WNUT, WNUT_SCHEMA, GSM8K = "bfcl_simple_150.jsonl", "wnut17_150.jsonl", "wnut17_schema.json", "gsm8k_100.jsonl"
LIMITS = {"BFCL": 256, "wnut17": 128}
"""Tokens of an answer."""
SAMPLE = 60
"""Of each set, unless all are asked for."""

Pairs = Sequence[tuple[Job, Answer]]
Score = Callable[[Pairs, Decode], float]
"""Percent."""
NamedScore = tuple[str, Score]


def workloads(material: Material, folder: Path | None, everything: bool) -> dict[str, tuple[Workload, NamedScore]]:
    """By name, each with its score: those whose files `folder` has. Without `everything` each is a sample."""
    found: dict[str, tuple[Workload, NamedScore]] = {}
    if folder is None:
        return found
    count = 2 if material.smoke else None if everything else SAMPLE
    if (folder / BFCL).exists():
        calls = _calls(material, _lines(folder / BFCL, count))
        found["BFCL"] = (_workload("BFCL", f"{len(calls)} function calls", calls), (EXACT, _exact(calls)))
    if (folder / WNUT).exists() and (folder / WNUT_SCHEMA).exists():
        schema = json.loads((folder / WNUT_SCHEMA).read_text(encoding="utf-8"))
        texts = _texts(material, _lines(folder / WNUT, count), schema)
        found["wnut17"] = (_workload("wnut17", f"entities of {len(texts)} texts", texts), (F1, _f1(texts)))
    return found


def gsm8k(folder: Path) -> list[str]:
    """Questions and answers, or nothing where the file is not."""
    path = folder / GSM8K
    lines = _lines(path) if path.exists() else []
    return [f"{line['question']}\n{line['answer']}" for line in lines]


Expected = dict[tuple[int, ...], tuple[Job, Any]]
"""Prompt → its job and what a right answer has."""


def _calls(material: Material, lines: Sequence[dict[str, Any]]) -> Expected:
    """One call of the one function that a line offers."""
    found: Expected = {}
    for line in lines:
        function = line["tools"][0]["function"]
        schema = {
            "type": "object",
            "properties": {"name": {"const": function["name"]}, "arguments": function["parameters"]},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        instruction = f"Call the function. Answer with one JSON object {{name, arguments}}.\n{json.dumps(function)}"
        prompt = material.chat([{"role": "system", "content": instruction}, *line["messages"]])
        [accepted] = line["ground_truth"][0].values()
        found[tuple(prompt)] = (Job(prompt, LIMITS["BFCL"], schema), accepted)
    return found


def _texts(material: Material, lines: Sequence[dict[str, Any]], schema: dict[str, Any]) -> Expected:
    found: Expected = {}
    kinds = ", ".join(schema["properties"])
    instruction = f"List the named entities of the text by kind ({kinds}) as one JSON object of lists."
    for line in lines:
        prompt = material.chat([{"role": "system", "content": instruction}, {"role": "user", "content": line["text"]}])
        found[tuple(prompt)] = (Job(prompt, LIMITS["wnut17"], schema), entities(line["entities"]))
    return found


def _exact(expected: Expected) -> Score:
    def score(pairs: Pairs, decode: Decode) -> float:
        right = 0
        for job, answer in pairs:
            value = _value(answer, decode)
            arguments = value.get("arguments") if isinstance(value, dict) else None
            right += isinstance(arguments, dict) and is_accepted(arguments, expected[tuple(job.prompt)][1])
        return 100 * right / len(pairs)

    return score


def is_accepted(arguments: Mapping[str, Any], accepted: Mapping[str, Sequence[Any]]) -> bool:
    """BFCL's rule: each argument has one of its accepted values, none is unknown, and only those that accept "" may be
    missing. Texts are compared without case, spaces and punctuation."""
    if arguments.keys() - accepted.keys():
        return False
    for name, values in accepted.items():
        if name not in arguments:
            if "" not in values:
                return False
        elif _plain(arguments[name]) not in [_plain(value) for value in values]:
            return False
    return True


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return "".join(c for c in value.lower() if c not in " ,./-_*^'\"")
    if isinstance(value, bool):
        return ("bool", value)  # True is not 1 here
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        # Inside an accepted object each value is itself a list of accepted ones; the first stands for all.
        return {key: _plain(item[0] if isinstance(item, list) and item else item) for key, item in value.items()}
    return value


def _f1(expected: Expected) -> Score:
    def score(pairs: Pairs, decode: Decode) -> float:
        found = [(entities(_value(answer, decode)), expected[tuple(job.prompt)][1]) for job, answer in pairs]
        hits = sum(len(mine & right) for mine, right in found)
        total = sum(len(mine) + len(right) for mine, right in found)
        return 100 * 2 * hits / total if total else 0.0

    return score


def entities(value: Any) -> set[tuple[str, str]]:
    """(kind, text) of all that an answer lists, without case."""
    if not isinstance(value, dict):
        return set()
    listed = [(kind, text) for kind, texts in value.items() if isinstance(texts, list) for text in texts]
    return {(kind, text.strip().lower()) for kind, text in listed if isinstance(text, str) and text.strip()}


def _value(answer: Answer, decode: Decode) -> Any:
    try:
        return json.loads(text_of(answer, decode))
    except ValueError:
        return None


def _workload(name: str, title: str, expected: Expected) -> Workload:
    jobs = [job for job, _ in expected.values()]
    batches: Batches = [jobs]
    return Workload(name, title, 16, max(len(job.prompt) + job.output_tokens for job in jobs), lambda _: batches)


def _lines(path: Path, count: int | None = None) -> list[dict[str, Any]]:
    """All lines of a file, or `count` of them, spread over it."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return lines if count is None or count >= len(lines) else [lines[i * len(lines) // count] for i in range(count)]
