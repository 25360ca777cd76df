"""The robot and its tasks in MuJoCo, and its twin behind a serial port."""
