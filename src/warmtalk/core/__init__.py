"""The pure middle: numpy, OpenCV and the standard library. No gRPC, no torch, no asyncio."""
