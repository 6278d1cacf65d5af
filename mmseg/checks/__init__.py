"""Checks of a data root before training: one module a data set, one for the findings, :mod:`.run` ties them together.

Nothing is imported here: the processes that read pixels and events need no torch.
"""
