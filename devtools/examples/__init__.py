"""Examples: the entity that `make entity` copies, and that the tests ask. No application in production has it."""
