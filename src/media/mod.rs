//! What a drive's medium is on the host: memory, an image file, or writes in memory over either.
//!
//! | file | what |
//! |---|---|
//! | `disk` | the trait [`Disk`], which drives read and write, and its saved content |
//! | `memory`, `snapshot`, `overlay` | a medium in memory; writes that stay in memory; writes that can be taken back |
//! | `file`, `files` | a file of an image, by position; the files that an image is made of, and those that it may name |
//! | `format` | the formats, and how a file's content tells its own |
//! | `raw`, `vhd`, `vmdk`, `qcow2` | one file or folder for each format; `reader`, `table` and `unpack` serve several |
//! | `image` | opening an image with all that it stands on |

mod disk;
mod file;
mod files;
mod format;

pub mod image;
mod memory;
pub mod overlay;
mod qcow2;
mod raw;
mod reader;
mod snapshot;
mod table;
mod unpack;
mod vhd;
mod vmdk;

pub use disk::{Content, Disk, SECTOR, Sector, size_of};
pub use files::Allowed;
pub use format::ImageFormat;
pub use image::Image;
pub use memory::MemoryDisk;
pub use raw::FileDisk;
pub use snapshot::Snapshot;
