"""Exceptions that file readers raise for damaged, hostile or odd content: one list for all of them."""

from __future__ import annotations

import csv
import lzma
import pickle
import struct
import zipfile
import zlib

# h5py, numpy, zipfile and similar libraries document few of these. Which one is raised depends on the damaged byte: a
# password or Deflate64 in an archive is a RuntimeError, a number too large for C an OverflowError.
READ_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    csv.Error,
    lzma.LZMAError,
    pickle.UnpicklingError,
    struct.error,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
)
# Longest cause in a message, in characters.
LONGEST = 300


def cause(error: BaseException) -> str:
    """Text of an error: one line, never empty, of limited length."""
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
