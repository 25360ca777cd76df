"""How a robot differs from its model: one vocabulary for gaps, randomisation and identification."""
