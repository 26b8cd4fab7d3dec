"""What the project costs, against the usual wiring of the same packages, on the reader's own machine."""
