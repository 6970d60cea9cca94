"""The protection of identifiers."""

from medsae_ray.config.base import Model


class Privacy(Model):
    """The protection of the identifiers of patients, studies and images."""

    hash_ids: bool | None = None
    """Replace identifiers by a keyed hash (how.id_key) in the manifest and all that follows. Null: only for kinds
    whose files carry a hospital's own identifiers (dicom)."""
