"""Traffic as users of tasks make it."""
