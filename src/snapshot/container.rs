//! The form of our files: a header, and a payload under a checksum. A file that is damaged, cut short, of
//! another kind or of another version is refused with a sentence.
//!
//! | bytes | what |
//! |---|---|
//! | 0-7 | `SUBRING` and the kind: `S` a snapshot, `R` a recording |
//! | 8-11 | the version of the kind's payload, little-endian |
//! | 12-19 | length of the payload |
//! | 20-35 | XXH3 (128 bits) of all the other bytes |
//! | 36- | the payload, as postcard has it |
//!
//! The checksum is against accidents. Who forges a file gets a strange machine, and nothing else.

use crate::error::{Error, Result};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use xxhash_rust::xxh3::Xxh3;

const MAGIC: &[u8; 7] = b"SUBRING";
const HEADER: usize = 36;

/// The kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A machine.
    Snapshot,
    /// A session's input.
    Recording,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Snapshot, Self::Recording];

    fn letter(self) -> u8 {
        match self {
            Self::Snapshot => b'S',
            Self::Recording => b'R',
        }
    }

    /// The version of the payload; it moves on with every change of what is in it.
    fn version(self) -> u32 {
        match self {
            Self::Snapshot => 11,
            Self::Recording => 7,
        }
    }

    /// Bytes of a payload at most. A snapshot holds memory of up to 3 GiB and what was written to disks.
    fn longest(self) -> u64 {
        match self {
            Self::Snapshot => 8 << 30,
            Self::Recording => 1 << 20,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Recording => "recording",
        }
    }

    /// The option that takes such a file.
    fn option(self) -> &'static str {
        match self {
            Self::Snapshot => "--restore",
            Self::Recording => "--replay",
        }
    }
}

fn checksum(header: &[u8], payload: &[u8]) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(header);
    hash.update(payload);
    hash.digest128()
}

/// The bytes of a file of `kind` that holds `value`.
///
/// # Errors
/// [`Error::Usage`] for what has no form in a file: a path that is no Unicode text.
pub fn encode(kind: Kind, value: &impl Serialize) -> Result<Vec<u8>> {
    let payload = postcard::to_stdvec(value)
        .map_err(|_| Error::Usage(format!("a {} cannot hold a path that is no Unicode text", kind.name())))?;
    let mut file = MAGIC.to_vec();
    file.push(kind.letter());
    file.extend(kind.version().to_le_bytes());
    file.extend((payload.len() as u64).to_le_bytes());
    let sum = checksum(&file, &payload);
    file.extend(sum.to_le_bytes());
    file.extend(payload);
    Ok(file)
}

/// Decodes `file`, the content of the file at `path`.
///
/// # Errors
/// [`Error::Image`] when it is not a whole file of `kind` and of this version.
pub fn decode<T: DeserializeOwned>(kind: Kind, path: &Path, file: &[u8]) -> Result<T> {
    let (header, payload) = file.split_at_checked(HEADER).unwrap_or((file, &[]));
    let length = payload_length(kind, path, header)?;
    if length != payload.len() as u64 {
        return Err(wrong_length(kind, path));
    }
    value(kind, path, header, payload)
}

/// Reads a container of `kind` from `file`, which has `size` bytes; `whole` says that nothing may follow it.
/// Gives what it holds, and its bytes. Nothing is kept in memory of a file that does not begin as one,
/// whatever its size.
///
/// # Errors
/// The errors of [`decode`]; [`Error::File`] when the file cannot be read.
pub(super) fn read<T: DeserializeOwned>(
    kind: Kind,
    path: &Path,
    (file, size): (&mut File, u64),
    whole: bool,
) -> Result<(T, Vec<u8>)> {
    let failed = |e| Error::file("read", path, e);
    let mut bytes = Vec::new();
    (&mut *file).take(HEADER as u64).read_to_end(&mut bytes).map_err(failed)?;
    let length = payload_length(kind, path, &bytes)?;
    let there = size.saturating_sub(HEADER as u64);
    if length > there || (whole && length != there) {
        return Err(wrong_length(kind, path));
    }
    if length > kind.longest() || holes(file, size) {
        return Err(Error::image(path, format!("the {} is damaged: its length makes no sense", kind.name())));
    }
    file.take(length).read_to_end(&mut bytes).map_err(failed)?;
    let (header, payload) = bytes.split_at(HEADER);
    if payload.len() as u64 != length {
        return Err(wrong_length(kind, path));
    }
    Ok((value(kind, path, header, payload)?, bytes))
}

/// Files of fewer bytes may be holes.
const SMALL: u64 = 16 << 20;
/// A larger file holds so many bytes at most for each that is stored.
const DENSITY: u64 = 16;

/// Whether nearly all of a large file is holes, which read as zeros. No page of zeros is ever saved: such a
/// file is no snapshot, and would take memory for nothing.
fn holes(file: &File, size: u64) -> bool {
    if size <= SMALL {
        return false;
    }
    let (mut at, mut stored) = (0, 0);
    while stored < size / DENSITY {
        match seek(file, SeekFrom::Data(at)) {
            Ok(data) => {
                at = seek(file, SeekFrom::Hole(data)).unwrap_or(size);
                stored += at.saturating_sub(data);
            }
            // No more data.
            Err(Errno::NXIO) => break,
            // The file system does not tell.
            Err(_) => stored = size,
        }
    }
    let _ = seek(file, SeekFrom::Start(HEADER as u64));
    stored < size / DENSITY
}

/// The length of the payload that `header` tells, of a file of `kind` and of this version.
fn payload_length(kind: Kind, path: &Path, header: &[u8]) -> Result<u64> {
    let name = kind.name();
    let refuse = |reason: String| Err(Error::image(path, reason));
    if header.len() < HEADER {
        return refuse(format!("this is no {name}, or only the beginning of one"));
    }
    if header[..7] != *MAGIC {
        return refuse(format!("this is no {name}"));
    }
    if header[7] != kind.letter() {
        return refuse(match Kind::ALL.into_iter().find(|k| k.letter() == header[7]) {
            Some(other) => format!("this is a {}, for {}", other.name(), other.option()),
            None => format!("this is no {name}"),
        });
    }
    let version = little(&header[8..12]);
    if version != u128::from(kind.version()) {
        return refuse(format!(
            "the {name} is of version {version} and this program reads version {}: make it anew",
            kind.version()
        ));
    }
    Ok(little(&header[12..20]) as u64)
}

fn wrong_length(kind: Kind, path: &Path) -> Error {
    Error::image(path, format!("the {} is damaged: it is not as long as it says", kind.name()))
}

/// Decodes `payload`, if the checksum fits.
fn value<T: DeserializeOwned>(kind: Kind, path: &Path, header: &[u8], payload: &[u8]) -> Result<T> {
    let damaged = |why: &str| Error::image(path, format!("the {} is damaged: {why}", kind.name()));
    if little(&header[20..]) != checksum(&header[..20], payload) {
        return Err(damaged("its checksum does not fit"));
    }
    postcard::from_bytes(payload).map_err(|_| damaged("its content makes no sense"))
}

fn little(bytes: &[u8]) -> u128 {
    bytes.iter().rev().fold(0, |value, b| value << 8 | u128::from(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &[u8]) -> Result<Vec<u16>> {
        decode(Kind::Snapshot, Path::new("f"), file)
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let file = encode(Kind::Snapshot, &vec![7u16, 500, 65535]).unwrap();
        assert_eq!(read(&file).unwrap(), [7, 500, 65535]);
        for bit in 0..file.len() * 8 {
            let mut bad = file.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&bad).is_err(), "bit {bit}");
        }
        for len in 0..file.len() {
            assert!(read(&file[..len]).is_err(), "{len} bytes");
        }
        assert!(read(&[&file[..], &[0]].concat()).is_err());
    }

    #[test]
    fn the_wrong_kind_and_version_are_told() {
        let file = encode(Kind::Recording, &vec![1u16]).unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("a recording, for --replay"));
        let mut file = encode(Kind::Snapshot, &vec![1u16]).unwrap();
        file[8] = 200;
        assert!(read(&file).unwrap_err().to_string().contains("of version 200"));
    }
}
