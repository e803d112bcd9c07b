"""What each step computes.

`Scheduler` owns every live request from `add` until it has finished, and decides within a transaction of the block
pool: `plan` (pure but for that transaction), then either `apply` with the step's result or `discard`. One step is in
flight at most. Time comes in as an argument only. Not thread-safe: the engine calls it from one thread at a time.
"""

from .config import SchedulerConfig
from .scheduler import Scheduler, SchedulerStats

__all__ = ["Scheduler", "SchedulerConfig", "SchedulerStats"]
