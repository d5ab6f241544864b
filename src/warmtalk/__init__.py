"""A talking-avatar service: text or audio in, one continuous conversation video out."""

__version__ = "0.1.0"
