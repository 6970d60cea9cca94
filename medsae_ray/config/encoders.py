"""The encoders that a recipe can name: one model each, told apart by `kind`.

`core/encoders` has one class for each kind; `weights` says what how.paths.weights has to name where a kind cannot do
without. What the weights are is hashed by their content, never by their path or id.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from medsae_ray.config.base import Model

Mean = float | list[float]
Std = Annotated[float, Field(gt=0)] | list[Annotated[float, Field(gt=0)]]
Precision = Literal["float32", "bfloat16"]
Channels = Literal["L", "RGB"]
Fit = Literal["pad", "stretch", "crop"]
Side = Annotated[int, Field(ge=8, le=4096)]


class EncoderModel(Model):
    """What every encoder has."""

    weights: ClassVar[str | None] = None
    """What how.paths.weights must name; None where there are published weights to fall back on."""
    takes_ids: ClassVar[bool] = False
    """Whether how.paths.weights may be a Hugging Face id."""
    has_text: ClassVar[bool] = False
    """Whether its published weights have a text half."""
    later: ClassVar[frozenset[str]] = frozenset()
    """Options that artifacts are older than."""

    def options(self) -> dict[str, Any]:
        """What load_encoder is given beside kind and weights."""
        return self.model_dump(exclude={"kind", "tokens"}, exclude_none=True)

    def identity(self) -> dict[str, Any]:
        """What of it names the artifact: an option that came later is left out where it is not used."""
        chosen = self.model_dump()
        return {key: value for key, value in chosen.items() if value is not None or key not in self.later}

    @property
    def patches(self) -> bool:
        """Whether the run keeps what the encoder makes of each patch."""
        return False


class TorchEncoderModel(EncoderModel):
    """What every encoder that torch computes has."""

    precision: Precision = "float32"
    """Of weights and activations. Embeddings are stored as float32 either way; those of bfloat16 have a cosine of at
    least 0.9995 with those of float32 (trained weights, and random ones of their size)."""
    tokens: Literal["pooled", "patch"] = "pooled"
    """What the SAE learns from: one embedding per image, or each of its patches, which what.sae then calls images."""

    @property
    def patches(self) -> bool:
        """Whether the encoder gives one embedding per patch instead of one per image."""
        return self.tokens == "patch"


class MedclipEncoder(TorchEncoderModel):
    """MedCLIP's vision half: Swin-T (vit) or ResNet-50 (resnet), 512 dimensions."""

    has_text: ClassVar[bool] = True
    kind: Literal["medclip-vit", "medclip-resnet"]


class OnnxEncoder(EncoderModel):
    """An exported encoder of your own; how.paths.weights names the .onnx file."""

    weights: ClassVar[str | None] = "the .onnx file"
    later: ClassVar[frozenset[str]] = frozenset({"layout"})
    kind: Literal["onnx"]
    size: Side
    """Side of the square input, in pixels."""
    channels: Channels = "RGB"
    """Grey (one channel) or colour (three; grey images are repeated)."""
    mean: Mean = 0.0
    """Subtracted after scaling pixels to 0..1, one value or one per channel."""
    std: Std = 1.0
    """Divides after the mean is subtracted."""
    fit: Fit = "stretch"
    """How an image becomes square: black border, resize, or centre crop."""
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    """Interpolation of the resize."""
    layout: Literal["channels_first", "channels_last"] | None = None
    """Of the model's input; null reads it from the input's shape."""
    input_name: str | None = None
    """Name of the model's input; needed only if several lead to the output."""
    output_name: str | None = None
    """Name of the model's output, or of any tensor inside it, as where the model ends in classes; needed only if it has
    several outputs."""

    @model_validator(mode="before")
    @classmethod
    def _has_no_patches(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("tokens", "pooled") != "pooled":
            raise ValueError("an onnx encoder gives one embedding per image, it has no patch tokens; leave tokens out")
        return data


class TransformersEncoder(TorchEncoderModel):
    """What the models that transformers loads have in common; null takes what their files say."""

    takes_ids: ClassVar[bool] = True
    pool: Literal["pooler", "cls", "mean"] = "pooler"
    """The model's own pooled output, its class token, or the mean of its patch tokens."""
    resize: Side | None = None
    """Side, or with fit crop the short side, to resize to before the centre of `size` is cut."""
    fit: Fit | None = None
    """How an image becomes square: black border, resize, or centre crop."""
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    """Interpolation of the resize."""
    mean: Mean | None = None
    """Subtracted after scaling pixels to 0..1, one value or one per channel."""
    std: Std | None = None
    """Divides after the mean is subtracted."""
    channels: Channels = "RGB"
    """L sends grey images to the device as one channel, which are repeated there: a third of the memory."""


class HuggingfaceEncoder(TransformersEncoder):
    """A vision model that transformers' AutoModel loads; how.paths.weights names its id or folder."""

    weights: ClassVar[str | None] = "a Hugging Face id (owner/name or owner/name@revision) or a folder"
    kind: Literal["huggingface"]
    size: Side | None = None
    """Side of the square input, in pixels; null takes what the model's files say."""


class Dinov3Encoder(TransformersEncoder):
    """DINOv3, as SAIL takes it: ViT-L/16, 1024 dimensions; how.paths.weights may name another of its models."""

    kind: Literal["dinov3"]
    size: Side = 1024
    """Side of the square input, in pixels; SAIL's is 1024."""


class BiomedparseEncoder(TorchEncoderModel):
    """BiomedParse's image encoder, as SAIL takes it: FocalNet-L, 1536 dimensions."""

    takes_ids: ClassVar[bool] = True
    kind: Literal["biomedparse"]
    size: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] = 1024
    """Side of the square input, in pixels."""
    mean: Mean | None = None
    """Subtracted after scaling pixels to 0..1; null takes SAIL's (ImageNet's)."""
    std: Std | None = None
    """Divides after the mean is subtracted; null takes SAIL's (ImageNet's)."""
    channels: Channels = "RGB"
    """L sends grey images to the device as one channel, which are repeated there: a third of the memory."""


Encoder = Annotated[
    MedclipEncoder | OnnxEncoder | HuggingfaceEncoder | Dinov3Encoder | BiomedparseEncoder, Field(discriminator="kind")
]
"""What a recipe may have under what.encoder."""
