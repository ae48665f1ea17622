//! Benchmarks of howdah, each a program of its own: `make idle`.
