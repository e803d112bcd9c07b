"""What can go wrong with media."""

from __future__ import annotations

from ..core.errors import ParameterError


class MediaError(ParameterError):
    """An image, a recording or a document can't be used: not there, too large, damaged, or of the wrong kind."""


class FetchRefused(MediaError):
    """The guard does not let this URL, address or response through."""


class FetchFailed(MediaError):
    """The server could not be reached, was too slow, or answered with an error."""
