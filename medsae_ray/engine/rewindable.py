"""A generator of random numbers on a CPU that can go back to its start, as vLLM wants.

vLLM 0.29 draws a token for every step of a prompt that it computes in several steps, throws it away, and moves the
request's generator back (gpu_model_runner.py, `_bookkeeping_sync`). A generator on a CPU has no offset to move, and the
engine ends with "CPU Generator does not use offset", on any request with a seed and a temperature above 0.
"""

from typing import Any

import torch


class RewindableGenerator(torch.Generator):
    """A generator whose every move back is one to its seed: what vLLM throws away comes before the first token."""

    def get_offset(self) -> int:
        """Return 0: only `set_offset` makes use of it."""
        return 0

    def set_offset(self, offset: int) -> Any:
        """Begin again."""
        return self.manual_seed(self.initial_seed())
