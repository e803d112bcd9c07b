"""pageform beside its peers: the same model, prompts and threads, in turn, round by round.

`workloads.py` says what is asked, `variants.py` in which settings, `session.py` runs everything, `measure.py` and
`sanity.py` read the answers, `requirements.py` judges, `plots.py` draws.
"""

from __future__ import annotations

from ..options import Options
from ..report import Report


def run(options: Options) -> Report:
    """Without `--peers` only pageform runs. Peers that cannot be had or fail are named, and fail the report."""
    from .session import Session  # pulls in the engine

    return Session(options).run()
