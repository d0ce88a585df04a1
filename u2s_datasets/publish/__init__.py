"""What stands between a finished run and the Hub: gate, build, scan, upload, card. `push.py` is the public face."""
