"""Direct Feedback Alignment on modern deep learning tasks."""
