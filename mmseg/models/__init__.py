"""Networks: encoders, fusion modules, decode heads, segmentors and the style-transfer generator."""
