"""A map of features: those whose decoder directions are alike lie near each other.

Legend: M features, D embedding dimension.

van der Maaten & Hinton (2008), "Visualizing data using t-SNE"; as scikit-learn computes it (Barnes-Hut).
"""

import numpy as np

from medsae_ray.core.analysis.values import Floats

PERPLEXITY = 30.0
"""The number of neighbours that a feature is to lie near, or a third of all features if they are fewer than 91."""
FEWEST = 5
"""The fewest features with neighbours to speak of; fewer lie on a circle."""


def feature_map(direction_MD: np.ndarray, seed: int) -> Floats:
    """Return coordinates [M, 2] of features by the cosines of their decoder directions, in -1 to 1.

    The same directions and seed give the same map. Neighbours mean something, and the distance of far features,
    the axes and the density of a group do not. A direction of zero counts as unlike all.
    """
    features = len(direction_MD)
    if features < FEWEST:
        angle_M = 2 * np.pi * np.arange(features) / max(features, 1)
        return np.stack([np.cos(angle_M), np.sin(angle_M)], axis=1)
    from sklearn.manifold import TSNE  # 1 s that no other stage has to wait for

    norm_M1 = np.linalg.norm(direction_MD, axis=1, keepdims=True)
    unit_MD = direction_MD / np.where(norm_M1 > 0, norm_M1, 1)
    perplexity = min(PERPLEXITY, (features - 1) / 3)
    found = TSNE(init="pca", metric="cosine", perplexity=perplexity, random_state=seed, n_jobs=1).fit_transform(unit_MD)
    xy_M2 = np.asarray(found, dtype=np.float64)
    xy_M2 -= (xy_M2.max(axis=0) + xy_M2.min(axis=0)) / 2
    largest = np.abs(xy_M2).max()
    return xy_M2 / largest if largest > 0 else xy_M2
