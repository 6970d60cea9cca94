"""What a reader may see of images."""

from typing import Literal

Access = Literal["all", "thumbnails", "none"]
"""A page for each image, thumbnails alone, or no image."""
