"""Hooks under Instructor's names, called with Instructor's arguments."""

from ....structured.events import HookName
from ....structured.hooks import Hooks

__all__ = ["HookName", "Hooks"]
