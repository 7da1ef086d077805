"""Makes a lake of a named shape.

    python -m benchmarks.lakes mixed /tmp/mixed --scale 0.1

writes the tables below FOLDER/tables, the exact truth to FOLDER/truth.parquet and facts to FOLDER/facts.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.lakes.lake import write_lake
from benchmarks.lakes.shapes import SHAPES


def main() -> int:
    shapes = "\n".join(f"  {name:11} {shape.says}" for name, shape in SHAPES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lakes",
        description=__doc__,
        epilog=f"shapes at scale 1:\n{shapes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full size (default: 1)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    tables = SHAPES[options.shape].tables(options.scale, options.seed)
    facts = write_lake(tables, options.folder, shape=options.shape, scale=options.scale, seed=options.seed)
    print(json.dumps(asdict(facts), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
