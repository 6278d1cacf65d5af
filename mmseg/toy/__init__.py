"""The toy city: a procedural street by day and by night, in the formats of the real data sets.

``tools/make_toy_data.py`` writes it. Nothing here is taken from a recording; it exists so that the whole method can
be run, and its effect be seen, without a download.
"""
