"""What R2D2 costs and finds beside other ways to the same answer: `python -m benchmarks.run --help`."""
