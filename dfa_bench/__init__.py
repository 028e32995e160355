"""Direct Feedback Alignment on modern deep learning tasks."""

__version__: str


def __getattr__(name: str) -> str:
    """`__version__`, looked up in the metadata of the installed package when somebody asks."""
    if name == "__version__":
        from importlib.metadata import version

        return version("dfa-bench")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
