"""Columns that may not be shown to a model: those that name a patient, a study or a file.

A column is refused by its name, which a recipe holds, or by its values, which the manifest holds. No message quotes a
value, as messages go into logs.
"""

import re
from collections.abc import Sequence

NAMES = frozenset(
    """id ids uid uids uuid guid mrn ssn accession path paths uri url file files filename filenames hash key name names
    email phone address birthdate dob date datetime timestamp number no nr index""".split()  # noqa: SIM905
)
"""The words that end the name of an identifier, as in "Patient ID" and "study_uid"."""
WHOLE = frozenset("patient patients subject subjects study studies series image images person case scan".split())  # noqa: SIM905
"""The words that are an identifier when they stand alone."""
_PATTERNS = {
    "names of files": re.compile(r"\.(png|jpe?g|tiff?|dcm|nii|gz|bmp|npy|zip)$", re.IGNORECASE),
    "DICOM's identifiers": re.compile(r"^\d+(\.\d+){4,}$"),
    "dates": re.compile(r"\b\d{4}-\d{1,2}-\d{1,2}\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b"),
    "hashes": re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{12,}\b", re.IGNORECASE),
    "names of people": re.compile(r"\w\^\w"),
    "addresses of mail": re.compile(r"\S@\S+\.\w"),
    "paths": re.compile(r"\\|/.*/|/.*\.\w{2,4}$|^\w:"),
    "long numbers": re.compile(r"\d{6,}"),
}
FEW, SHARE, COUNTED = 20, 0.5, 150
"""The fewest patients that say anything, the share of them with a value of their own above which a column is refused,
and the largest number that is taken for a quantity, as an age."""
LONG = 60
"""The most characters of a value that is no free text."""


def named_as_identifier(column: str) -> bool:
    """Return True if a column's name is that of an identifier."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", column)
    words = [word for word in re.split(r"[^a-z]+", spaced.casefold()) if word]
    return bool(words) and (words[-1] in NAMES or (len(words) == 1 and words[0] in WHOLE))


def valued_as_identifier(values: Sequence[str | None], patients: int) -> str | None:
    """Return what the values of a column look like if that is an identifier or free text; None if they do not.

    `patients` is the number of distinct patients. Numbers up to `COUNTED` and decimals are quantities.
    """
    known = {value.strip() for value in values if value and value.strip()}
    for kind, pattern in _PATTERNS.items():
        if any(pattern.search(value) for value in known if not _is_decimal(value)):
            return kind
    if any(len(value) > LONG for value in known):
        return "free text"
    telling = {value for value in known if not _is_quantity(value)}
    if patients >= FEW and len(telling) > SHARE * patients:
        return "values of one patient each"
    return None


def _is_decimal(value: str) -> bool:
    return re.fullmatch(r"[-+]?\d{1,5}\.\d+(e[-+]?\d+)?", value) is not None


def _is_quantity(value: str) -> bool:
    return _is_decimal(value) or (re.fullmatch(r"[-+]?\d{1,5}", value) is not None and abs(int(value)) <= COUNTED)
