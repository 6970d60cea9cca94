"""The prompts of the vision-language model: naming a feature from two groups of images, detecting a name in one.

A message is a list of parts, text or image. The constant parts come first, so that an engine with a prefix cache
computes them once: the instruction, and in detection the image too, which all questions about it share.
"""

import hashlib
import json

Content = str | bytes
"""A part of a message: text, or an encoded image (PNG or JPEG)."""

NAMING = (
    "You compare two groups of medical images. Find the most specific property that can be seen in most images of "
    "group A and in no image of group B. It may be a finding, anatomy, a device, projection, positioning, exposure, "
    "a burned-in marker, habitus or the source of the image. First say what each image of group A shows, then what "
    "they share, then what group B lacks, then the name (at most 10 words) and a definition (at most 35 words) that "
    "can be checked on one image. Abstain if fewer than 60 percent of group A share a property."
)
GROUP_A, GROUP_B, NAMING_END = "Group A:", "Group B:", "Answer in JSON."
DETECTION = "Answer the question about the image with yes or no."

CATEGORIES = (
    "finding",
    "anatomy",
    "device",
    "projection",
    "positioning",
    "exposure",
    "marker",
    "habitus",
    "source",
    "none",
)
LATERALITIES = ("left", "right", "bilateral", "midline", "none")
NAME_WORDS, DEFINITION_WORDS = 10, 35
OTHER_NAMES = 3
"""The most alternatives to the name that the model gives."""
CONTROL_NAME = "chest radiograph"
"""The trivial name: true of every image, so it separates none from another."""


def naming_message(group_a: list[bytes], group_b: list[bytes]) -> list[Content]:
    """Return the message that asks for a name: instruction, group A, group B, request."""
    return [NAMING, GROUP_A, *group_a, GROUP_B, *group_b, NAMING_END]


def question(name: str, definition: str | None = None) -> str:
    """Return the yes/no question after the image."""
    concept = f"{name} - {definition}" if definition else name
    return f"Is the following visible? {concept}. Yes or no?"


def detection_message(image: bytes, name: str, definition: str | None = None) -> list[Content]:
    """Return the message that asks whether a name is visible: instruction, image, question."""
    return [DETECTION, image, question(name, definition)]


def naming_schema(n_a: int) -> dict[str, object]:
    """Return the JSON schema of a name for a group A of `n_a` images: evidence before name, abstention at the end."""
    text = {"type": "string", "maxLength": 120}
    properties: dict[str, object] = {
        "per_image": {"type": "array", "items": text, "minItems": n_a, "maxItems": n_a},
        "shared_in_a": {"type": "array", "items": text, "maxItems": 4},
        "absent_in_b": {"type": "array", "items": text, "maxItems": 4},
        "category": {"type": "string", "enum": list(CATEGORIES)},
        "name": {"type": "string", "maxLength": 100},
        "definition": {"type": "string", "maxLength": 300},
        "location": {"type": "string", "maxLength": 60},
        "laterality": {"type": "string", "enum": list(LATERALITIES)},
        "fraction_of_a": {"type": "number", "minimum": 0, "maximum": 1},
        "alternatives": {"type": "array", "items": {"type": "string", "maxLength": 100}, "maxItems": OTHER_NAMES},
        "confidence": {"type": "string", "enum": ["low", "medium", "high"]},
        "abstain": {"type": "boolean"},
    }
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def prompt_hash(*parts: object) -> str:
    """Return 12 hex digits of the hash of a prompt's parts; another wording is another address."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def detection_prompt() -> str:
    """Return the identity of the detection prompt: another wording or decoding is another address for every answer."""
    return prompt_hash(DETECTION, question("NAME"), question("NAME", "DEFINITION"), "1 token, temperature 0")


def naming_prompt(n_a: int, **decoding: object) -> str:
    """Return the identity of the naming prompt for groups A of `n_a` images."""
    return prompt_hash(NAMING, GROUP_A, GROUP_B, NAMING_END, naming_schema(n_a), decoding)
