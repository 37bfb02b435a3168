"""Array types with one name each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


Float32s = NDArray[np.float32]


Bools = NDArray[np.bool_]
