"""The three contractions on a GPU."""

from __future__ import annotations

from .plain import contract_w, contract_x, contract_y, programs

__all__ = ["contract_w", "contract_x", "contract_y", "programs"]
