"""Models by Hugging Face id, "owner/name" or "owner/name@revision", or by a local folder.

A snapshot lies in Hugging Face's own cache, in a folder named by its commit. `HF_TOKEN`, `HF_HOME`, `HF_ENDPOINT` and
`HF_HUB_OFFLINE` mean what they mean to huggingface_hub, which is imported when an id is looked up.
"""

import re
from functools import lru_cache
from pathlib import Path

from medsae_ray.core.encoders.checkpoint import SETTINGS, WEIGHTS, weight_files
from medsae_ray.errors import EncoderError

_ADAPTER = "adapter_config.json"
_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")


def is_id(weights: str) -> bool:
    """Whether `weights` may be a Hugging Face id: it has the form of one and is no file or folder here."""
    return _ID.fullmatch(weights) is not None and not Path(weights).expanduser().exists()


def pinned(weights: str) -> str:
    """An id with its revision replaced by the commit that it means now; anything else as it is.

    Workers that start later then load what the driver saw, even if a branch has moved on.
    """
    if not is_id(weights):
        return weights
    return f"{weights.split('@')[0]}@{snapshot(weights, SETTINGS[:1]).name}"


def model_folder(weights: str, *, settings_only: bool = False) -> Path:
    """The folder of a model that transformers can load; with `settings_only` perhaps without its weights.

    Raises EncoderError where there is none, it cannot be fetched, or it holds no model.
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
    """The local snapshot of an id, with at least those of its files that `patterns` name, where it has them."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    name, _, revision = weights.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=list(patterns)))
    except GatedRepoError as error:
        raise EncoderError(
            f"weights {weights}: {name} is gated. Accept its licence at https://huggingface.co/{name}, then set "
            "HF_TOKEN to a token of the same account, on every node"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise EncoderError(
            f"weights {weights}: no such file or folder here, and Hugging Face has no model {name} that this account "
            "may see. Check the spelling; for a private model set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise EncoderError(f"weights {weights}: {name} has no branch, tag or commit {revision}") from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise EncoderError(
            f"weights {weights}: no such file or folder here, and Hugging Face cannot be reached "
            f"({type(error).__name__}). Where there is a network run `hf download {name}`, and give the folder that it "
            "prints, or share its cache (HF_HOME)"
        ) from error
