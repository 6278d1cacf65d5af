"""What the command ``cmda`` and the scripts run.

One module for each command, with ``make_parser``, ``parse_args`` and ``main``.
"""
