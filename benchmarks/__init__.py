"""What the project costs in CPU, compared with the usual use of the same packages, on your own machine."""
