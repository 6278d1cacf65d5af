"""The experiment launcher: flags, child configs, runs."""
