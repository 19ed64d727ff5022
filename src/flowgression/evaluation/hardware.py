"""The name of what computes."""

import platform
from pathlib import Path

import torch


def processor_name(device: torch.device) -> str:
    """The GPU's name, or that of the processor as the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        names = [
            line.partition(":")[2].strip() for line in facts.read_text().splitlines() if line.startswith("model name")
        ]
        if names:
            return f"{len(names)} x {names[0]}"
    return platform.processor() or platform.machine()
