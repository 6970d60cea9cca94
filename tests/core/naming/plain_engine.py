"""An engine in this process whose answers follow from the pixels, for tests of everything around an engine."""

import asyncio
import io
import json
from collections import Counter
from typing import Any

import numpy as np
from PIL import Image

from medsae_ray.core.naming.engine import BATCH, ImageAnswers, Usage, Writing, Written, Wrote, YesNo
from medsae_ray.core.naming.prompts import naming_schema


def brightness(png: bytes) -> float:
    return float(np.asarray(Image.open(io.BytesIO(png)).convert("L")).mean()) / 255


def reply(**changed: Any) -> str:
    """A reply that fits the schema for a group A of 2."""
    base = dict.fromkeys(naming_schema(2)["required"], "")  # type: ignore[arg-type]
    base |= {"per_image": ["bright"] * 2, "shared_in_a": ["bright"], "absent_in_b": ["bright"], "alternatives": []}
    base |= {"category": "finding", "laterality": "none", "confidence": "high", "fraction_of_a": 1.0, "abstain": False}
    return json.dumps({**base, "name": "bright image", "definition": "the image is bright", **changed})


class PlainEngine:
    """p(yes) is the image's brightness. `write` gives the `replies` one after another, then the last again."""

    identity = "plain-1"

    def __init__(self, replies: list[str] | None = None, break_after: int | None = None) -> None:
        self.replies, self.break_after = replies or [reply()], break_after
        self.questions: Counter[tuple[float, str]] = Counter()
        self.temperatures: list[float] = []
        self.under_way = self.most = 0

    async def ask(self, image: bytes, questions: list[str], priority: int = BATCH) -> ImageAnswers:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0.01)
        self.under_way -= 1
        if self.break_after is not None and self.questions.total() >= self.break_after:
            raise ConnectionError("the engine is gone")
        self.questions.update((brightness(image), question) for question in questions)
        return ImageAnswers(
            [YesNo(brightness(image), 1.0)] * len(questions), Usage(len(questions), 10 * len(questions))
        )

    async def write(self, writing: Writing, priority: int = BATCH) -> Wrote:
        text = self.replies[min(len(self.temperatures), len(self.replies) - 1)]
        self.temperatures.append(writing.temperature)
        return Wrote(Written(text, "stop"), Usage(1, 100, 0, 20))
