"""Importing the room is quick and loads none of the libraries that only some calls need."""

from __future__ import annotations

import json
import subprocess
import sys

# Processor time, since the machine may be busy with other tests.
PROGRAM = """
import json, sys, time
from pydantic import BaseModel, TypeAdapter
before = time.process_time()
import pageform.structured, pageform.structured.dialects
print(json.dumps([time.process_time() - before, sorted(sys.modules)]))
"""
LATER = ["jsonschema", "docstring_parser", "json_repair", "jinja2", "tenacity", "rich", "pydantic.v1", "msgspec"]
ENGINE = ["numpy", "tokenizers", "llguidance", "torch", "transformers", "pageform._native", "pageform.engine"]


def test_the_import_is_light() -> None:
    runs = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout))
    assert min(seconds for seconds, _ in runs) < 0.25
    assert not set(LATER + ENGINE) & set(runs[0][1])
