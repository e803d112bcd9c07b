"""Instructor's interface, served by pageform's clients.

    import pageform.compat.instructor as instructor      # instead of: import instructor

    client = instructor.from_openai(OpenAI())
    user = client.chat.completions.create(model="gpt-5-mini", response_model=User, messages=[…])

Names, defaults, hooks and exceptions are Instructor's (1.17). What differs is what its users complain about: values are
instances of the caller's own classes, streams arrive while they are sent, a truncated answer raises
`IncompleteOutputException` itself, and `Mode.TOOLS_STRICT` is strict. Fine-tuning helpers are not covered.
"""

from ...media import PDF, Audio, Image
from ...structured.llm_validator import llm_validator, openai_moderation
from ...structured.markers import Partial
from ...structured.maybe import Maybe
from .client import (
    AsyncInstructor,
    Instructor,
    apatch,
    from_anthropic,
    from_anyscale,
    from_cerebras,
    from_cohere,
    from_databricks,
    from_deepseek,
    from_fireworks,
    from_genai,
    from_groq,
    from_litellm,
    from_mistral,
    from_openai,
    from_openrouter,
    from_perplexity,
    from_provider,
    from_together,
    from_xai,
    patch,
)
from .core.hooks import HookName, Hooks
from .dsl import CitationMixin, IterableModel
from .modes import Mode
from .schemas import (
    OpenAISchema,
    ResponseSchema,
    generate_anthropic_schema,
    generate_gemini_schema,
    generate_openai_schema,
    openai_schema,
    response_schema,
)

__all__ = [
    "PDF",
    "AsyncInstructor",
    "Audio",
    "CitationMixin",
    "HookName",
    "Hooks",
    "Image",
    "Instructor",
    "IterableModel",
    "Maybe",
    "Mode",
    "OpenAISchema",
    "Partial",
    "ResponseSchema",
    "apatch",
    "from_anthropic",
    "from_anyscale",
    "from_cerebras",
    "from_cohere",
    "from_databricks",
    "from_deepseek",
    "from_fireworks",
    "from_genai",
    "from_groq",
    "from_litellm",
    "from_mistral",
    "from_openai",
    "from_openrouter",
    "from_perplexity",
    "from_provider",
    "from_together",
    "from_xai",
    "generate_anthropic_schema",
    "generate_gemini_schema",
    "generate_openai_schema",
    "llm_validator",
    "openai_moderation",
    "openai_schema",
    "patch",
    "response_schema",
]
