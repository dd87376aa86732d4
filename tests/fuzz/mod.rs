//! Fuzz targets as functions of bytes: the tests give them pseudo-random bytes, the crate in `fuzz/` those of libFuzzer.

pub(crate) mod bytes;
pub(crate) mod decoder;
pub(crate) mod endurance;
pub(crate) mod loaders;
pub(crate) mod machine;
pub(crate) mod text;
