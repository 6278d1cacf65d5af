"""The folder of a run: names and readers of its files, and which run they belong to."""
