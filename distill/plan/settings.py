"""The hardware that `--plan` estimates for."""

from pydantic import Field

from cluster.settings import Settings


class PlanSettings(Settings):
    """The hardware that `--plan` estimates for. Nothing else depends on it."""

    gpu_tflops: float = Field(default=790.0, gt=0)
    """Most 10^12 dense bfloat16 operations a second of one GPU (790: measured on an H200; NVIDIA states 312 for an A100, 121 for an L4)."""
    efficiency: float = Field(default=0.4, gt=0, le=1)
    """Share of `gpu_tflops` that the work reaches, on tokens without padding (0.4: a usual figure of well-batched encoders)."""
    price_per_gpu_hour: float | None = Field(default=None, ge=0)
    """Price of a GPU for an hour, in any currency. If None, no cost is printed."""
    sample: int = Field(default=1000, ge=1)
    """Texts that are tokenised to measure lengths."""
