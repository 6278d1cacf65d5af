"""What makes training data out of downloads: label maps, image changes, frame lists, warped images, caches."""
