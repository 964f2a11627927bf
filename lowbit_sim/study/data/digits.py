"""scikit-learn's digits: 1,797 real 8x8 images of handwritten digits, which come with the library.

Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998 (the test part of it).
"""

from __future__ import annotations

import numpy as np

from lowbit_sim.study.data.dataset import Dataset, RawImages, normalized

#: Of each class, in stored order, every fifth image is a test image.
TEST_EVERY = 5


def load_digits(*, limit: int | None = None, test_limit: int | None = None) -> Dataset:
    """The digits, split the same way always: by class, so that each class has its share of both parts.

    Args:
        limit: Keep the first `limit` training images.
        test_limit: Keep the first `test_limit` test images.
    """
    from sklearn.datasets import load_digits as read

    # Without options scikit-learn returns a Bunch, not the pair that its type hints also allow.
    bunch = read()
    labels = np.asarray(bunch["target"], dtype=np.int64)  # pyright: ignore[reportArgumentType, reportCallIssue]
    pixels = np.asarray(bunch["images"])  # pyright: ignore[reportArgumentType, reportCallIssue]
    pixels = pixels[:, None].astype(np.uint8)  # [1797, 1, 8, 8], 0 to 16
    is_test = stratified_test_mask(labels)
    return normalized(
        name="digits",
        description="scikit-learn digits (8x8 grey, 1,797 images)",
        train=RawImages(pixels=pixels[~is_test][:limit], labels=labels[~is_test][:limit]),
        test=RawImages(pixels=pixels[is_test][:test_limit], labels=labels[is_test][:test_limit]),
        classes=10,
    )


def stratified_test_mask(labels: np.ndarray) -> np.ndarray:
    """Which examples are for testing: the last of every `TEST_EVERY` of each class. bool [N] of labels [N]."""
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        mask[np.flatnonzero(labels == label)[TEST_EVERY - 1 :: TEST_EVERY]] = True
    return mask
