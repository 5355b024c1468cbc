"""Norms whose axes are divided among the processes of `torch.distributed`."""
