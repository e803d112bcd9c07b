"""An engine of a model that was loaded before answers without NumPy, whose import would take as long as the weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from pageform import Engine, SamplingParams
with Engine("smollm2", threads=1, kv_cache_memory="8MB", max_model_len=64, packed_cache=sys.argv[1]) as engine:
    prompt = [1, 504, 3575, 282, 4649, 314]
    greedy = SamplingParams(temperature=0, max_tokens=4, logit_bias={5: 1.0}, repetition_penalty=1.1, drafts="none")
    print(engine.generate([prompt], sampling=greedy)[0].token_ids)
print("numpy" in sys.modules)
"""


def test_numpy_is_not_imported_for_an_answer(tmp_path: Path) -> None:
    answers = []
    for _ in range(2):  # packed, then restored
        command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        *answer, imported = done.stdout.splitlines()
        assert imported == "False"
        answers.append(answer)
    assert answers[0] == answers[1]
    assert len(json.loads(answers[0][0])) == 4
