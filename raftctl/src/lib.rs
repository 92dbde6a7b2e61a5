//! The client as a library.
