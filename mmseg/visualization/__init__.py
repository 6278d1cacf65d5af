"""Pictures of labels, events and training steps."""
