"""Generated from protos/warmtalk/v1 by `make proto`; never edited."""
