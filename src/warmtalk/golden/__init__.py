"""This installation against recorded arrays of the reference program: `warmtalk verify-golden`."""
