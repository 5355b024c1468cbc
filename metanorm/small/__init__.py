"""The values of a norm on small tensors, in plain Python: what a picture needs, without torch.

Forward only, one element at a time. Tests hold it to the oracle.
"""
