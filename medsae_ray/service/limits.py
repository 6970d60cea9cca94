"""The bounds of a caller's requests. They apply before anything is decoded or kept."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RequestLimits:
    """The bounds of one replica of the service."""

    body: int = 32 * 2**20
    """The most bytes of a request's body."""
    body_s: float = 30.0
    """The seconds in which a caller has to send it."""
    pixels: int = 40_000_000
    """The most pixels that an image may claim to be decoded; the recipe's own max_pixels applies too."""
    parts: int = 64
    """The most parts of a multipart body."""
    images: int = 16
    """The most images of one detection request."""
    names: int = 32
    """The most names of one detection request."""
    text: int = 300
    """The most characters of a name or a definition."""
    chat_text: int = 100_000
    """The most characters of all texts of a chat request, and of the schema of its answer."""
    tokens: int = 2048
    """The most tokens of an answer to a chat request; a quarter if the request states no number."""
    requests: int = 16
    """The most requests with a body at once; the next is told to retry."""
    threads: int = 2
    """The most images decoded and encoded at once."""
    window: int = 1000
    """The last uploads that the drift view counts."""
    engine_s: float = 120.0
    """The seconds that the vision-language engine has for one request."""
    drain_s: float = 150.0
    """The seconds that requests under way have when the service stops."""
    retry_s: int = 2
    """The seconds in Retry-After."""
