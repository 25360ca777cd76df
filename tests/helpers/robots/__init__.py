"""Twins, devices and robots of topics, in processes of their own or on a bench."""
