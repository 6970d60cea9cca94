"""Numbers as the report prints them. A missing one (None, NaN, infinite) is an en dash, never "nan"."""

import math

DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def known(value: object) -> bool:
    """Return True if `value` is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def real(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """Format a number with a minus sign if negative and, with `signed`, a plus if positive; zero has no sign."""
    if value is None or not known(value):
        return DASH
    text = f"{abs(value):,.{digits}f}"
    sign = MINUS if value < 0 else "+" if signed else ""
    return sign + text if any(c in "123456789" for c in text) else text


def significant(value: float | None, digits: int = 3) -> str:
    """Format `digits` significant digits, without an exponent: activations and losses differ by orders of magnitude."""
    if value is None or not known(value):
        return DASH
    exponent = math.floor(math.log10(abs(value))) if value else 0
    return real(value, max(0, min(6, digits - 1 - exponent)))


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """Format an interval as `[0.71, 0.83]`, or as an en dash unless both ends are known."""
    return f"[{real(low, digits)}, {real(high, digits)}]" if known(low) and known(high) else DASH


def count(value: float | None) -> str:
    """Format `12345` as `12,345`."""
    return real(value, 0)


def percent(share: float | None, digits: int = 1) -> str:
    """Format `0.0312` as `3.1 %` (with a no-break space)."""
    return DASH if share is None or not known(share) else f"{real(100 * share, digits)}\u00a0%"


def probability(value: float | None) -> str:
    """Format a p-value as `= 0.031`, or as `< 0.001` if it is smaller."""
    return "< 0.001" if value is not None and known(value) and value < 0.001 else f"= {real(value)}"


def shorten(text: str, limit: int) -> str:
    """Return `text` within `limit` characters, the last one an ellipsis if any was cut."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
