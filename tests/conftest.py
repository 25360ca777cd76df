"""What every test shares.

Hypothesis draws the same examples each time, and sets no deadlines: the clock is not tested.
"""

from hypothesis import settings

settings.register_profile("house", derandomize=True, deadline=None)
settings.load_profile("house")
