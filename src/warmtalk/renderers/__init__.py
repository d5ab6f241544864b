"""Face renderers: the registry, and one module per renderer with availability check, loading and avatar preparation."""
