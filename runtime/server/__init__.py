"""Serve one bundle to many askers: the brain, its HTTP door, and the page that shows it at work.

    uservlm serve bundles/pocket        # http://127.0.0.1:8642

`brain.py` holds the engine, the queue, the users and the limits; a door only translates. The HTTP
door is here, the qi door in `pepper_app/`. Needs `pip install 'uservlm[serve]'`; the rest of the
runtime does not.
"""
