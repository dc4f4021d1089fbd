"""The app on Pepper's head; the module `app` says how its parts hang together."""
