"""Neuroglancer and the reports in a browser: links, and the small server behind them."""
