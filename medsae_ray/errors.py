"""The errors that users see. Each message says what was found, where, and what to do.

MedsaeError
├── RecipeError         a recipe, or what it asks of the cluster, cannot be followed
│   └── DivergedError   training left the finite numbers
├── DatasetError        a table, its labels or patients are not what the recipe says
├── ImageError          one image cannot be used; in a run it becomes a row that is not ok, and is counted
├── EncoderError        weights or options do not fit the encoder
├── ArtifactError       an artifact is missing, incomplete, damaged or of another schema
├── ShardError          a shard could not be computed within the allowed retries
├── EngineError         the vision-language model cannot be started or reached
└── NamingError         an answer of the vision-language model is no name by the schema
"""

import unicodedata


class MedsaeError(Exception):
    """Base of every error raised on purpose by medsae_ray."""


class RecipeError(MedsaeError):
    """A recipe, or what a recipe asks of the cluster, cannot be followed."""


class DatasetError(MedsaeError):
    """A dataset's table, labels or patients are not what the recipe says."""


class EncoderError(MedsaeError):
    """An encoder's weights or options do not fit its architecture."""


class ArtifactError(MedsaeError):
    """An artifact is missing, incomplete, damaged or of another schema."""


class DivergedError(RecipeError):
    """Training left the finite numbers; other settings, and not another attempt, may help."""


class ImageError(MedsaeError):
    """One image cannot be used. `reason` is a short stable word that is counted; the message has the detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class ShardError(MedsaeError):
    """A shard could not be computed within the allowed retries."""


class NamingError(MedsaeError):
    """A vision-language model's answer is not a name by the schema."""


class EngineError(MedsaeError):
    """The vision-language model cannot be started or reached."""


def one_line(text: str) -> str:
    """`text` with control, format and surrogate characters and runs of white space as single spaces."""
    printable = (" " if unicodedata.category(c).startswith("C") else c for c in text)
    return " ".join("".join(printable).split())
