"""The real side: link, device, drivers, run loop, recorder. Never torch, MuJoCo or Gymnasium."""
