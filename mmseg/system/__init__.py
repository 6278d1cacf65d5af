"""The process and its surroundings: signals, console, text, Python itself. Nothing here needs torch or numpy."""
