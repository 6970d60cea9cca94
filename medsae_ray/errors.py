"""The errors that users see. Each message has the finding, its place and the remedy.

MedsaeError
├── RecipeError         a recipe, or its demands on the cluster, cannot be followed
│   └── DivergedError   training left the finite numbers
├── DatasetError        a table, its labels or patients contradict the recipe
├── ImageError          one image cannot be used; in a run it becomes a row that is not ok, and is counted
├── EncoderError        weights or options do not fit the encoder
├── ArtifactError       an artifact is missing, incomplete, damaged or of another schema
├── ShardError          a shard could not be computed within the allowed retries
├── EngineError         the vision-language model cannot be started or reached
├── NamingError         an answer of the vision-language model is not a name by the schema
├── JudgementError      a reader's judgement cannot be kept as it is
└── ServiceError        the service does not answer a request of the client, or refuses it
"""

import unicodedata


class MedsaeError(Exception):
    """The base of every error raised on purpose by medsae_ray."""


class RecipeError(MedsaeError):
    """The error of a recipe, or of its demands on the cluster, that cannot be followed."""


class DatasetError(MedsaeError):
    """The error of a dataset's table, labels or patients that contradict the recipe."""


class EncoderError(MedsaeError):
    """The error of an encoder's weights or options that do not fit its architecture."""


class ArtifactError(MedsaeError):
    """The error of an artifact that is missing, incomplete, damaged or of another schema."""


class DivergedError(RecipeError):
    """The error of a training that left the finite numbers; other settings may help, another attempt does not."""


class ImageError(MedsaeError):
    """The error of an unusable image. `reason` is a short stable word that is counted; the message has the detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class ShardError(MedsaeError):
    """The error of a shard that could not be computed within the allowed retries."""


class NamingError(MedsaeError):
    """The error of a vision-language model's answer that is not a name by the schema."""


class EngineError(MedsaeError):
    """The error of a vision-language model that cannot be started or reached."""


class JudgementError(MedsaeError):
    """The error of a reader's judgement that cannot be kept. `field` names the part at fault."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.message, self.field = message, field


class ServiceError(MedsaeError):
    """The error of a request that the service refuses or does not answer. `code` is the service's short stable word for
    it, `where` the part of the request at fault, and `retry_s` the seconds after which it may be tried again."""

    def __init__(
        self,
        message: str,
        code: str,
        status: int | None = None,
        where: str | None = None,
        retry_s: float | None = None,
    ) -> None:
        at = f" in {where}" if where else ""
        super().__init__(f"{message} ({code}{at}{f', HTTP {status}' if status else ''})")
        self.code, self.status, self.where, self.retry_s = code, status, where, retry_s


def one_line(text: str) -> str:
    """Return `text` with control, format and surrogate characters and runs of white space as single spaces."""
    printable = (" " if unicodedata.category(c).startswith("C") else c for c in text)
    return " ".join("".join(printable).split())
