"""A run after its training: compared, promoted, trained again, archived, deleted; who is told."""
