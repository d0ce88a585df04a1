"""Where rows come from. A new format is a file here with its `Source`, and one line in `open.py`."""
