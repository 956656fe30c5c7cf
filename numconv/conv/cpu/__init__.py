"""The three contractions in Numba, float32 and float64, by several methods."""

from __future__ import annotations

from .method import by

__all__ = ["by", "contract_w", "contract_x", "contract_y"]

contract_y, contract_x, contract_w = by("auto").contract_y, by("auto").contract_x, by("auto").contract_w
