"""What one caller may ask for. Everything here holds before anything is decoded or kept."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RequestLimits:
    """Bounds of one replica of the service."""

    body: int = 32 * 2**20
    """Bytes of a request's body."""
    body_s: float = 30.0
    """Seconds that a caller may take to send it."""
    pixels: int = 40_000_000
    """An image that claims more is not decoded, nor one beyond the recipe's own max_pixels."""
    parts: int = 64
    """Parts of a multipart body."""
    images: int = 16
    """Images of one detection request."""
    names: int = 32
    """Names of one detection request."""
    text: int = 300
    """Characters of a name or a definition."""
    chat_text: int = 100_000
    """Characters of all texts of a chat request, and of the schema of its answer."""
    tokens: int = 2048
    """Tokens of an answer to a chat request; a quarter where none are asked for."""
    requests: int = 16
    """Requests with a body that are under way at once; the next is told to come back."""
    threads: int = 2
    """Images that are decoded and encoded at once."""
    engine_s: float = 120.0
    """Seconds that the vision-language engine has for one request."""
    retry_s: int = 2
    """What Retry-After says."""
