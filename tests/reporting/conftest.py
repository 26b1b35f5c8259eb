from __future__ import annotations

import io
from collections.abc import Callable

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

Count = Callable[[Figure, str], int]


@pytest.fixture
def pixels() -> Count:
    """Count the pixels of nearly one colour in a drawn figure."""

    def count(figure: Figure, colour: str) -> int:
        memory = io.BytesIO()
        figure.savefig(memory, format="png")
        memory.seek(0)
        image = matplotlib.image.imread(memory)[:, :, :3]
        wanted = np.array(matplotlib.colors.to_rgb(colour))
        return int((np.abs(image - wanted).max(axis=2) < 0.03).sum())

    return count
