"""ROS graphs, nodes and launch files, as a user runs them."""
