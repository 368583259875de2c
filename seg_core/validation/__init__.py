"""Scores of checkpoints, and the choice among them: what `validate` and its readers share."""
