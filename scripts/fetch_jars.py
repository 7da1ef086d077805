"""Starts Apache Spark once, which fetches Delta's jars into its cache."""

import sys

from r2d2.config import AuditConfig
from r2d2.errors import EngineError
from r2d2.session import open_engine

try:
    open_engine(AuditConfig(lake="unused", out="unused", engine="spark", master="local[1]")).stop()
except EngineError as exc:
    sys.exit(str(exc))
