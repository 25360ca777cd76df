"""ROS 2 nodes: thin shells, each a managed (lifecycle) node in a process of its own."""
