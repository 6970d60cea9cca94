from typing import Any

from medsae_ray.core.judgements.record import Judgement


def judgement(number: int = 0, **other: Any) -> Judgement:
    given = {
        "key": f"key-{number:06d}",
        "reader": "r1",
        "at": f"2026-11-29T12:00:00.{number % 1000:03d}+00:00",
        "atlas": "atlas-0123456789ab",
        "sae": "sae-0123456789ab",
        "feature": number,
        "name": "Pleural Effusion",
        "kind": "vote",
        "value": "agree",
    }
    return Judgement(**given | other)
