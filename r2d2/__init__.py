"""R2D2 proves which tables of a data lake are redundant and how each would be rebuilt.

    from r2d2 import AuditConfig, audit
    finished = audit(AuditConfig(lake="s3://bucket/lake", out="results"))
    print(finished.summary["savings_per_month"])

Everything is imported on first use, so that `import r2d2` needs no engine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from r2d2.config import AuditConfig
    from r2d2.errors import EngineError, LakeError, R2D2Error, UsageError
    from r2d2.pipeline import Audit, audit

__all__ = ["Audit", "AuditConfig", "EngineError", "LakeError", "R2D2Error", "UsageError", "audit"]

_HOMES = {
    "Audit": "r2d2.pipeline",
    "audit": "r2d2.pipeline",
    "AuditConfig": "r2d2.config",
    "EngineError": "r2d2.errors",
    "LakeError": "r2d2.errors",
    "R2D2Error": "r2d2.errors",
    "UsageError": "r2d2.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'r2d2' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
