"""Hot loops over voxels and edges, compiled by numba."""
