"""Event cameras: reading recordings, voxel grids and their normalisation."""
