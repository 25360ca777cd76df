"""Torch on one thread, as in training: on networks of this size more are slower."""

import torch

torch.set_num_threads(1)
