"""Data sets that training and tests read, and the preprocessing they share with inference.

Nothing is imported here, since tools that read file lists do without torch. The registry imports the data sets.
"""
