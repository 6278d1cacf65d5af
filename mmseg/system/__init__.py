"""The process and its environment: signals, console, text, the interpreter. Does not import torch."""
