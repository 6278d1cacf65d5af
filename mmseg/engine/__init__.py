"""Running a training: optimiser, schedule, checkpoints, logs and the loop."""
