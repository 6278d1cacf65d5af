"""Checks of a data root before training: one module per data set, combined in :mod:`.run`.

Nothing is imported here: processes that read pixels and events need no torch.
"""
