"""The mathematics of a policy step."""
