"""The training method: self-training across day and night with images, events and content maps."""
