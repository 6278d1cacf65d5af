"""The toy city: a procedural street by day and by night, in the formats of the real data sets.

``tools/make_toy_data.py`` writes it. Nothing is taken from a recording. It lets the whole method run, and its effect be
seen, without a download.
"""
