"""Templates that are not trusted: chat templates of models, and the messages of users with variables in them.

Owns the sandbox and the budget that each rendering gets; nothing is kept but compiled templates. Any thread may render.
"""

from .messages import MessageTemplateError, Text, render_kwargs, render_messages
from .sandbox import compile_template, render

__all__ = ["MessageTemplateError", "Text", "compile_template", "render", "render_kwargs", "render_messages"]
