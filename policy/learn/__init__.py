"""Learning in simulation: rollouts, critics and updates."""
