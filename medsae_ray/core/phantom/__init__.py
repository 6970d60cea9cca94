"""Synthetic chest radiographs with planted findings, and the small encoder trained on them.

These are toys for trying the software, not medical images: the anatomy is schematic, the findings are caricatures, and
findings on them do not carry over to a real radiograph.
"""

from medsae_ray.core.phantom.cohort import TRAINING_SEEDS, USUAL, Hospital, patient
from medsae_ray.core.phantom.study import FINDINGS, LABELS, METADATA, Study

__all__ = ["FINDINGS", "LABELS", "METADATA", "TRAINING_SEEDS", "USUAL", "Hospital", "Study", "patient"]
