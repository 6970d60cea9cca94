"""Models by Hugging Face id, "owner/name" or "owner/name@revision", or by a local folder.

A snapshot is stored in Hugging Face's own cache, in a folder named by its commit. `HF_TOKEN`, `HF_HOME`, `HF_ENDPOINT`
and `HF_HUB_OFFLINE` have the same meaning as in huggingface_hub, which is imported when an id is looked up.
"""

import contextlib
import re
from functools import lru_cache
from pathlib import Path

from medsae_ray.core.encoders.checkpoint import SETTINGS, WEIGHTS, weight_files
from medsae_ray.errors import EncoderError, one_line

_ADAPTER = "adapter_config.json"
_TIMEOUT_S = 10
_COMMIT = re.compile("[0-9a-f]{40}")
_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")


def is_id(weights: str) -> bool:
    """Return True if `weights` may be a Hugging Face id: it has the form of one and is no file or folder here."""
    return _ID.fullmatch(weights) is not None and not Path(weights).expanduser().exists()


def pinned(weights: str) -> str:
    """Replace the revision of an id by its current commit; other values are returned unchanged.

    Workers that start later then load the same weights as the driver, even if a branch has moved.
    """
    name, _, revision = weights.partition("@")
    return f"{name}@{commit_of(name, revision)}" if is_id(weights) else weights


@lru_cache
def commit_of(name: str, revision: str | None = None) -> str:
    """Resolve a branch or tag to its current commit, by the hub or else by this machine's copy.

    Raises EncoderError if neither knows it.
    """
    if revision and _COMMIT.fullmatch(revision):
        return revision
    from huggingface_hub import HfApi

    with contextlib.suppress(Exception):  # a gated model's commit is public; why there is none, the next line says
        return str(HfApi().model_info(name, revision=revision or None, timeout=_TIMEOUT_S).sha)
    return snapshot(f"{name}@{revision}" if revision else name, SETTINGS[:1]).name


def model_folder(weights: str, *, settings_only: bool = False) -> Path:
    """Return the folder of a model that transformers can load; with `settings_only` its weights may be absent.

    Raises EncoderError if there is none, it cannot be fetched, or it holds no model.
    """
    folder = snapshot(weights, SETTINGS) if is_id(weights) else Path(weights).expanduser()
    if not folder.is_dir():
        raise EncoderError(f"weights {weights}: neither a folder nor a Hugging Face id (owner/name)")
    if not (folder / "config.json").is_file():
        raise EncoderError(f"weights {weights}: no config.json; a folder written by save_pretrained is needed")
    if (folder / _ADAPTER).is_file():
        raise EncoderError(
            f"weights {weights}: {_ADAPTER} lies beside the model, and its adapter would be left out; merge it "
            "(peft's merge_and_unload), or take the file away"
        )
    if settings_only:
        return folder
    # Where a model is there in both forms, one of them is enough.
    for patterns in WEIGHTS if is_id(weights) else ():
        if weight_files(snapshot(weights, patterns)):
            break
    if not weight_files(folder):
        raise EncoderError(f"weights {weights}: neither model.safetensors nor pytorch_model.bin, nor parts of them")
    return folder


@lru_cache
def snapshot(weights: str, patterns: tuple[str, ...]) -> Path:
    """Return the local snapshot of an id, with at least its files that match `patterns`."""
    from huggingface_hub import snapshot_download

    name, _, revision = weights.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(patterns)))
    except Exception as error:  # of many kinds: the hub's, the network's, and those of a reply that is none of the hub
        raise EncoderError(f"weights {weights}: {_why(error, name, revision)}") from error


def _why(error: Exception, name: str, revision: str) -> str:
    """Describe the failure, in the hub's own words if there are any, and the remedy."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    chain = _chain(error)
    first = next((one for one in chain if getattr(one, "response", None) is not None), error)
    page, download = f"https://huggingface.co/{name}", f"run `hf download {name}`, and give the folder that it prints"
    if isinstance(first, GatedRepoError):
        return (
            f"{name} is gated. Accept its licence at {page}, then set HF_TOKEN to a token of the same account, on "
            f"every node; {_FINE_GRAINED}{_said(first)}"
        )
    if isinstance(first, RepositoryNotFoundError | HFValidationError):
        return (
            f"no such file or folder here, and Hugging Face has no model {name} that this account may see. Check the "
            f"spelling; for a private model set HF_TOKEN{_said(first)}"
        )
    if isinstance(first, RevisionNotFoundError):
        return f"{name} has no branch, tag or commit {revision}"
    if (status := getattr(getattr(first, "response", None), "status_code", None)) is not None:
        return f"Hugging Face answers HTTP {status}{_said(first)}. {_ADVICE.get(status, _LATER).format(page=page)}"
    if any(isinstance(one, OfflineModeIsEnabled) for one in chain):
        return f"not on this machine, and HF_HUB_OFFLINE forbids to fetch it. Where there is a network {download}"
    if isinstance(error, OSError) and error.filename:
        return f"it cannot be kept on this machine ({error.strerror}): check the room and rights of HF_HOME's folder"
    if isinstance(error, OSError):
        return (
            "no such file or folder here, and Hugging Face cannot be reached "
            f"({type(error).__name__}). Where there is a network {download}, or share its cache (HF_HOME)"
        )
    return (
        f"what came back is no answer of Hugging Face ({type(first).__name__}), but perhaps of a proxy that asks to "
        f"sign in. Check HF_ENDPOINT; where there is a network {download}"
    )


_FINE_GRAINED = "a fine-grained token needs its permission to read gated repositories"
_LATER = "Try again later"
_ADVICE = {
    401: "The token is not valid: set HF_TOKEN to one that is, or unset it for a public model",
    403: f"The token may not read it: accept the licence at {{page}}; {_FINE_GRAINED}",
    404: "There is no such file or model: check the spelling",
    429: "There were too many requests: wait some minutes, or set HF_TOKEN, which allows more of them",
}


def _said(error: BaseException) -> str:
    """Return the hub's own words, on one line."""
    said = one_line(str(getattr(error, "server_message", None) or ""))[:300]
    return f" (it says: {said})" if said else ""


def _chain(error: BaseException) -> list[BaseException]:
    """Return an error and the errors that caused it."""
    found = [error]
    while (before := found[-1].__cause__ or found[-1].__context__) is not None and before not in found:
        found.append(before)
    return found
