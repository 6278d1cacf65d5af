"""What tests and trainings left, read again: comparisons of runs, and reports as one HTML file."""
