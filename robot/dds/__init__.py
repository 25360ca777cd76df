"""A ROS graph without ROS: the same messages, names and discovery over plain DDS (`[dds]` extra).

Interpreters that do not fit are the commonest trouble of people who run learned policies beside
ROS. This needs the `cyclonedds` package alone, whatever Python ROS was built for.
"""
