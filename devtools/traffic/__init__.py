"""Traffic as the users of a task API make it."""
