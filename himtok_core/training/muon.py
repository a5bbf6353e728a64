"""Muon for the matrices of transformer blocks: momentum, made orthogonal by Newton-Schulz steps.

PyTorch's own Muon iterates in bfloat16, which many processors emulate hundreds of times slower than
float32; this one iterates in float32 on those. The update has AdamW's usual size.
"""

import torch

from .optimizers import native_bfloat16


def orthogonalised(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The nearest semi-orthogonal matrices, roughly: (..., M, N) -> the same, with singular values near 1."""
    x = matrices.bfloat16() if native_bfloat16(matrices.device) else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    for _ in range(steps):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Args: params: matrices only; lr: of AdamW's scale; momentum: Nesterov; weight_decay: decoupled."""

    def __init__(self, params: list, lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            of_shape: dict[torch.Size, list[torch.nn.Parameter]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    of_shape.setdefault(parameter.shape, []).append(parameter)
            for alike in of_shape.values():
                self._move(alike, **{key: group[key] for key in ("lr", "momentum", "weight_decay")})

    def _move(self, alike: list[torch.nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        """One step of parameters of one shape: together, since a GPU takes as long for one as for all."""
        for parameter in alike:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in alike]
        moments = [self.state[parameter]["momentum"] for parameter in alike]
        torch._foreach_lerp_(moments, gradients, 1 - momentum)
        updates = orthogonalised(torch.stack(torch._foreach_lerp(gradients, moments, momentum)))
        torch._foreach_mul_(alike, 1 - lr * weight_decay)
        torch._foreach_add_(alike, updates.unbind(), alpha=-lr * 0.2 * max(alike[0].shape) ** 0.5)
