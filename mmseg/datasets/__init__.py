"""Data sets, and the tools that prepare them.

Nothing is imported here: the converter and the list tool need no torch and must not wait for it. The registry knows
where the data sets are.
"""
