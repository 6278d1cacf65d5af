"""Evaluation on a test set: predictions, scores against labels, submissions."""
