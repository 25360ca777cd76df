"""Learn a policy (torch), ship it (onnx), run it (onnxruntime), judge it."""
