"""ONNX nodes and sessions that training and export share."""
