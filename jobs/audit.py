r"""Audit a lake under spark-submit, with the options of `r2d2 audit`.

    spark-submit --packages io.delta:delta-spark_4.2_2.13:4.4.0 \\
      --conf spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension \\
      --conf spark.sql.catalog.spark_catalog=org.apache.spark.sql.delta.catalog.DeltaCatalog \\
      jobs/audit.py s3a://bucket/lake --out results --work s3a://bucket/scratch

The engine is the session of spark-submit; r2d2 must be installed where the driver and the workers run.
"""

import sys

from r2d2.cli import main

if __name__ == "__main__":
    main(["audit", "--engine", "spark", *sys.argv[1:]])
