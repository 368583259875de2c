"""Checks of what was made: each returns verdicts, and writes nothing but what it measured."""
