"""Running episodes of a policy on a robot, behind the safety monitor."""
