"""What becomes of identifiers."""

from medsae_ray.config.base import Model


class Privacy(Model):
    """What becomes of the identifiers of patients, studies and images."""

    hash_ids: bool | None = None
    """Replace them by a keyed hash (how.id_key) in the manifest and all that follows. Null: for kinds whose files carry
    a hospital's own identifiers (dicom), and for no others."""
