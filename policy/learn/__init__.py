"""Training in simulation: the learner, its settings, critics' fitting, and Ray."""
