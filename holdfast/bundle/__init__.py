"""The bundle: an ONNX file with its contract, checked before it is run."""
