"""The Dagster definitions around `seg_core`: one asset for every step, by run and block.

Nothing is computed here; each asset calls one function of `seg_core`. Loading imports no torch.
"""
