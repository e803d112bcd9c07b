"""Images, audio and PDFs as parts of a message, whatever the provider.

Owns what such a part is (bytes of a known kind, or a URL) and how bytes are fetched from a URL without being led
astray. How a provider wants a part spelled is `clients.encode`'s. Parts are plain frozen values: hashable, picklable,
shared by all threads. Nothing touches the network but `fetch`.
"""

from .base import CacheControl, Media
from .detect import detect, detect_messages
from .errors import FetchFailed, FetchRefused, MediaError
from .guard import Guard
from .kinds import PDF, Audio, Image

__all__ = [
    "PDF",
    "Audio",
    "CacheControl",
    "FetchFailed",
    "FetchRefused",
    "Guard",
    "Image",
    "Media",
    "MediaError",
    "detect",
    "detect_messages",
]
