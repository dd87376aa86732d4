//! The cache of decoded traces.
