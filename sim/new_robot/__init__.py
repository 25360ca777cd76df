"""The first files of a robot of one's own, written from its model."""
