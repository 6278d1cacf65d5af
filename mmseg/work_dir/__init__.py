"""The folder of a run: the files in it, what they are called, and whose they are."""
