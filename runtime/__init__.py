"""Answer a question about the user in view: vision (ONNX), language (GGUF), one prefix."""
