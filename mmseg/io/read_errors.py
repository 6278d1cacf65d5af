"""What the readers of files raise for content that is damaged, hostile or merely odd: one list for all of them."""

from __future__ import annotations

import csv
import lzma
import pickle
import struct
import zipfile
import zlib

# h5py, numpy, zipfile and their like document few of these. What comes depends on which byte of a file is wrong: a
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
LONGEST = 300


def cause(error: BaseException) -> str:
    """What an error says, in one line that is never empty and not endless."""
    if isinstance(error, MemoryError):
        return "it does not fit into the memory"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
