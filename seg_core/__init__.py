"""Segment microscopy volumes block by block: datasplit, train, validate, predict, segment."""
