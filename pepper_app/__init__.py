"""The app on and beside the Pepper robot."""
