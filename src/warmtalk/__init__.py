"""A talking-avatar service: text or sound in, one continuous conversation video out."""

__version__ = "0.1.0"
