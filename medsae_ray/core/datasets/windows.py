"""Windows for CT by study type: the Hounsfield units that become black and white.

The values are those that SAIL (https://github.com/pwesp/sail) uses for TotalSegmentator's scans. SAIL lists about forty
study types and stops at others; here the words of a study type are matched with the lines below, and the first match
counts. A study type without a match is shown as a whole body.

| words of the study type | Hounsfield units |
|---|---|
| angiography of head or neck alone | -350 to 550 |
| angiography of the thorax alone | -400 to 600 |
| other angiography, heart, aorta, coronary arteries | -380 to 620 |
| base or face of the skull | -480 to 720 |
| orbita | -440 to 560 |
| head | -160 to 240 |
| spine, legs, arms, hip | -800 to 1200 |
| whole body, polytrauma, and unknown | -750 to 650 |
| thorax with abdomen | -800 to 600 |
| thorax | -900 to 500 |
| abdomen, neck, intervention | -450 to 550 |
| pelvis | -620 to 780 |
"""

import re

_BY_WORDS: tuple[tuple[str, tuple[float, float]], ...] = (
    (r"angiography (head|neck)$", (-350, 550)),
    (r"angiography thorax$", (-400, 600)),
    (r"angiography|heart|aort|artrium|atrium|coronary", (-380, 620)),
    (r"felsenleg|gesicht", (-480, 720)),
    (r"orbita", (-440, 560)),
    (r"head", (-160, 240)),
    (r"spine|leg|hip|limb", (-800, 1200)),
    (r"polytrauma|whole body", (-750, 650)),
    (r"thorax-abdomen", (-800, 600)),
    (r"thorax|chest", (-900, 500)),
    (r"abdomen|neck|intervention|operation", (-450, 550)),
    (r"pelvis", (-620, 780)),
)
WHOLE_BODY = (-750.0, 650.0)


def ct_window(study_type: str | None) -> tuple[float, float]:
    """Return (black, white) in Hounsfield units."""
    words = " ".join((study_type or "").lower().split())
    return next((window for pattern, window in _BY_WORDS if re.search(pattern, words)), WHOLE_BODY)
