"""Live conversations: one endless video per Converse; see stream.py for the data flow."""
