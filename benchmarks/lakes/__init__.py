"""Lakes for benchmarks: seeded, of named shapes, with the containments that they hold by construction."""
