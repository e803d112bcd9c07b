"""Where older programs import Instructor's exceptions from."""

from .core.exceptions import *  # noqa: F403
from .core.exceptions import FailedAttempt, InstructorError, InstructorRetryException  # noqa: F401
