//! A machine's state written down and restored.
