"""The log of a run: a rosbag2 MCAP bag, its reader and its writer."""
