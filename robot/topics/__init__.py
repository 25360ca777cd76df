"""A robot whose sensors and commands are topics, whatever carries them."""
