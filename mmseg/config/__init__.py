"""Configs: reading, checking, and :class:`mmseg.config.run.RunConfig`."""
