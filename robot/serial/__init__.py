"""A robot behind a serial port, and the device's side of the link."""
