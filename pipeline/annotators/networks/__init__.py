"""MediaPipe's networks, run from their .tflite bytes: reading, conversion, runtimes, and what goes in and comes out."""
