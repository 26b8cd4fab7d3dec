"""Examples: the entity that `make entity` copies, and that tests and benchmarks ask. Nothing in production has it."""
