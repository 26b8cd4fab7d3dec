"""A task API that can be traced, measured and trusted."""
