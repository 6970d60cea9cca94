import asyncio

import pytest


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses take no time; these are they, in seconds."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def fast(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", fast)
    return pauses
