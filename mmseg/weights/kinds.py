"""What kind of weight file it is, by its first bytes."""

# torch.save: a zip archive, or a pickle of older versions.
TORCH_STARTS = (b"PK\x03\x04", b"\x80")
# safetensors: eight bytes for the length of the header, then the header, a JSON object.
SAFETENSORS_HEADER, HEADER_AT = b"{", 8


def is_safetensors(start: bytes) -> bool:
    """Whether a file that begins with these nine bytes or more is a safetensors file."""
    return start[HEADER_AT : HEADER_AT + 1] == SAFETENSORS_HEADER


def is_weights(start: bytes) -> bool:
    """Whether a file that begins with these nine bytes or more can be a weight file."""
    return start.startswith(TORCH_STARTS) or is_safetensors(start)
