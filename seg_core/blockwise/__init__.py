"""Steps by block: pass over what is done, make the rest, record each."""
