//! The formats of image files, and how the content of a file tells its format.

use super::{vhd, vmdk};
use serde::{Deserialize, Serialize};

/// The formats of image files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ImageFormat {
    /// The sectors, one after the other.
    Raw,
    /// QEMU's, versions 2 and 3.
    Qcow2,
    /// Virtual PC's, fixed or dynamic.
    Vhd,
    /// VMware's.
    Vmdk,
}

impl ImageFormat {
    /// The format of this name; QEMU's names are taken too.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "raw" => Some(Self::Raw),
            "qcow2" => Some(Self::Qcow2),
            "vhd" | "vpc" => Some(Self::Vhd),
            "vmdk" => Some(Self::Vmdk),
            _ => None,
        }
    }

    /// The format's name in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "VHD",
            Self::Vmdk => "VMDK",
        }
    }

    /// The format of a file that begins with `head`: one sector, or less if there is no more. A fixed VHD
    /// begins like a raw image and is told by its end: see [`ImageFormat::of_tail`].
    pub fn of_head(head: &[u8]) -> Self {
        if head.starts_with(b"QFI\xfb") {
            Self::Qcow2
        } else if head.starts_with(b"conectix") {
            Self::Vhd
        } else if head.starts_with(b"KDMV") || head.starts_with(b"COWD") || vmdk::is_descriptor(head) {
            Self::Vmdk
        } else {
            Self::Raw
        }
    }

    /// The format of a file whose head says nothing and whose last 512 bytes are `tail`.
    pub fn of_tail(tail: &[u8]) -> Self {
        if vhd::is_fixed_footer(tail) { Self::Vhd } else { Self::Raw }
    }
}
