"""Fragments of different blocks become segments: edges across faces, the graph, lasting ids."""
