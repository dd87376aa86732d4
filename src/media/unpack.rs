//! Compressed pieces of images: one cluster or grain at a time, into a buffer whose size is known.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use std::io::Read;

/// How a piece is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    /// A bare DEFLATE stream (RFC 1951).
    Deflate,
    /// A DEFLATE stream in a zlib wrapper (RFC 1950).
    Zlib,
    /// A Zstandard frame (RFC 8878).
    Zstd,
}

/// Fills `out` from `packed`, which may have other bytes after its end. Gives the bytes it had for `out`.
pub(super) fn unpack(packing: Packing, packed: &[u8], out: &mut [u8]) -> Option<usize> {
    let flags = match packing {
        Packing::Deflate => 0,
        Packing::Zlib => inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER,
        Packing::Zstd => return zstd(packed, out),
    };
    let flags = flags | inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, len) = decompress(&mut DecompressorOxide::new(), packed, out, 0, flags);
    matches!(status, TINFLStatus::Done | TINFLStatus::HasMoreOutput).then_some(len)
}

fn zstd(packed: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(packed).ok()?;
    decoder.read_exact(out).ok()?;
    Some(out.len())
}
