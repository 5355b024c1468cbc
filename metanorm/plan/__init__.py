"""What is done with the data, in how many looks at it: the plan that kernels are printed from."""
