"""Compares this installation with recorded arrays of the reference program: `warmtalk verify-golden`."""
