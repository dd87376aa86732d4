//! Values on the command line: sizes, counts, dates, durations. Each parser's error is the sentence clap shows.

use crate::media::ImageFormat;
use std::ffi::OsString;
use std::path::PathBuf;

/// An image file, and what the user says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageArg {
    /// The file.
    pub path: PathBuf,
    /// Its format, where one is named.
    pub format: Option<ImageFormat>,
}

/// An image: `FILE`, or `FILE,format=raw` (or qcow2, vhd, vmdk).
///
/// # Errors
/// A sentence.
pub fn image(text: OsString) -> Result<ImageArg, String> {
    let named = text.to_str().and_then(|t| t.rsplit_once(",format="));
    let Some((path, name)) = named else { return Ok(ImageArg { path: text.into(), format: None }) };
    let format = ImageFormat::named(name);
    let format = format.ok_or_else(|| format!("`{name}` is none of raw, qcow2, vhd, vmdk"))?;
    Ok(ImageArg { path: path.into(), format: Some(format) })
}

/// Splits digits (underscores allowed between them) from a suffix.
fn split(text: &str) -> Result<(u64, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
    let digits: String = text[..end].chars().filter(|&c| c != '_').collect();
    if digits.is_empty() {
        return Err("it does not start with a number".into());
    }
    let n = digits.parse().map_err(|_| "the number is too large".to_string())?;
    Ok((n, text[end..].trim()))
}

/// A number in decimal, or in hexadecimal after `0x`.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A count: `1000000`, `1_000_000`, `10M`, `2G` (powers of 1000).
///
/// # Errors
/// A sentence.
pub fn count(text: &str) -> Result<u64, String> {
    let (n, suffix) = split(text)?;
    let unit = match suffix {
        "" => 1,
        "k" | "K" => 1000,
        "m" | "M" => 1_000_000,
        "g" | "G" => 1_000_000_000,
        "t" | "T" => 1_000_000_000_000,
        _ => return Err(format!("the suffix `{suffix}` is none of K, M, G, T")),
    };
    n.checked_mul(unit).ok_or_else(|| "the number is too large".into())
}

/// A nominal frequency in Hz, from 1 kHz to 100 GHz.
///
/// # Errors
/// A sentence.
pub fn hertz(text: &str) -> Result<u64, String> {
    let hz = count(text)?;
    if (1000..=100_000_000_000).contains(&hz) {
        Ok(hz)
    } else {
        Err("give a frequency from 1K to 100G Hz".into())
    }
}

/// A number of bytes: `64K`, `16M`, `1G` (powers of 1024), or bytes.
fn bytes(text: &str) -> Result<Option<u64>, String> {
    let (n, suffix) = split(text)?;
    let shift = match suffix.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        _ => return Err(format!("the suffix `{suffix}` is none of K, M, G")),
    };
    Ok(n.checked_mul(1 << shift))
}

/// A memory size: a multiple of 4 KiB from 64 KiB to 3 GiB.
///
/// # Errors
/// A sentence.
pub fn memory(text: &str) -> Result<u32, String> {
    let bytes = bytes(text)?.filter(|b| (64 << 10..=3 << 30).contains(b) && b % 4096 == 0);
    bytes.map(|b| b as u32).ok_or_else(|| "give a multiple of 4 KiB from 64K to 3G".into())
}

/// The memory of a whole machine: a multiple of 4 KiB below 4 GiB.
///
/// # Errors
/// A sentence.
pub fn machine_memory(text: &str) -> Result<u64, String> {
    let bytes = bytes(text)?.filter(|b| (4096..4 << 30).contains(b) && b % 4096 == 0);
    bytes.ok_or_else(|| "give a multiple of 4 KiB below 4G".into())
}

/// A size in bytes, 0 included: `512M`, `2G` (powers of 1024).
///
/// # Errors
/// A sentence.
pub fn size(text: &str) -> Result<u64, String> {
    bytes(text)?.ok_or_else(|| "that is too large".into())
}

/// An address: decimal, or hexadecimal after `0x`.
///
/// # Errors
/// A sentence.
pub fn address(text: &str) -> Result<u32, String> {
    number(text)
        .and_then(|n| u32::try_from(n).ok())
        .ok_or_else(|| "give an address like 0x7c00, below 4 GiB".into())
}

/// A length in bytes, not 0: `4096`, `0x1000`, `4K`, `1M` (powers of 1024).
///
/// # Errors
/// A sentence.
pub fn length(text: &str) -> Result<u32, String> {
    let bytes = match number(text) {
        Some(n) => Some(n),
        None => {
            let (n, suffix) = split(text)?;
            let shift = match suffix.to_ascii_uppercase().as_str() {
                "K" => 10,
                "M" => 20,
                "G" => 30,
                _ => return Err(format!("the suffix `{suffix}` is none of K, M, G")),
            };
            n.checked_mul(1 << shift)
        }
    };
    bytes
        .and_then(|n| u32::try_from(n).ok())
        .filter(|&n| n != 0)
        .ok_or_else(|| "give a length like 4096, 0x1000 or 64K, below 4 GiB".into())
}

/// A duration in microseconds: `2`, `1.5s`, `300ms`, `50us`, `2m`.
///
/// # Errors
/// A sentence.
pub fn micros(text: &str) -> Result<u64, String> {
    const EXAMPLE: &str = "give a duration like 2s, 1.5s, 300ms or 1m";
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (value, unit) = text.split_at(end);
    let unit: u64 = match unit {
        "" | "s" => 1_000_000,
        "ms" => 1000,
        "us" => 1,
        "m" | "min" => 60_000_000,
        _ => return Err(EXAMPLE.into()),
    };
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 9 || fraction.contains('.') {
        return Err(EXAMPLE.into());
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| EXAMPLE)? };
    let part: u64 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| EXAMPLE)? };
    let part = part * unit / 10u64.pow(fraction.len() as u32);
    whole.checked_mul(unit).and_then(|w| w.checked_add(part)).ok_or_else(|| "the duration is too long".into())
}

/// A point in time for the real-time clock: seconds since 1970, or `2026-01-31`, `2026-01-31T12:30:00Z`.
///
/// # Errors
/// A sentence.
pub fn epoch(text: &str) -> Result<i64, String> {
    let seconds = match text.parse::<i64>() {
        Ok(seconds) => Some(seconds),
        Err(_) => date(text),
    };
    // The clock chip has two digits of year and a century byte: what fits is 1970 to 2099.
    seconds.filter(|s| (0..4_102_444_800).contains(s)).ok_or_else(|| {
        "give seconds since 1970, or a UTC date like 2026-01-31 or 2026-01-31T12:30:00, from 1970 to 2099"
            .into()
    })
}

fn date(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (day, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00"));
    let (y, m, d) = three(day, '-', None)?;
    let (h, min, s) = three(time, ':', Some(0))?;
    let leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    let february = if leap { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let in_range = (1970..2100).contains(&y)
        && (1..=12).contains(&m)
        && (1..=lengths[(m - 1) as usize]).contains(&d)
        && h < 24
        && min < 60
        && s < 60;
    in_range.then(|| {
        let years: i64 =
            (1970..y).map(|y| if y % 4 == 0 && (y % 100 != 0 || y % 400 == 0) { 366 } else { 365 }).sum();
        let months: i64 = lengths[..(m - 1) as usize].iter().sum();
        (years + months + d - 1) * 86400 + h * 3600 + min * 60 + s
    })
}

/// Three numbers; a missing third one is `last`. None may be out of `1..` for the first month index above.
fn three(text: &str, separator: char, last: Option<i64>) -> Option<(i64, i64, i64)> {
    let mut parts = text.split(separator).map(|p| {
        let digits = !p.is_empty() && p.len() <= 4 && p.bytes().all(|b| b.is_ascii_digit());
        if digits { p.parse::<i64>().ok() } else { None }
    });
    let (a, b) = (parts.next()??, parts.next()??);
    let c = match parts.next() {
        Some(c) => c?,
        None => last?,
    };
    parts.next().is_none().then_some((a, b, c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_sizes_take_suffixes() {
        assert_eq!(count("1_000_000"), Ok(1_000_000));
        assert_eq!(count("10M"), Ok(10_000_000));
        assert_eq!(memory("16M"), Ok(16 << 20));
        assert_eq!(memory("3G"), Ok(3 << 30));
        for bad in ["", "M", "4G", "63K", "65537", "16Q", "99999999999999999999", "-1", "18014398509481984K"]
        {
            assert!(memory(bad).is_err(), "{bad}");
        }
        assert!(count("99999999999999999999").is_err());
        assert!(count("999999999999999T").is_err());
    }

    #[test]
    fn dates_are_utc() {
        assert_eq!(epoch("0"), Ok(0));
        assert_eq!(epoch("2000-01-01"), Ok(946_684_800));
        assert_eq!(epoch("2024-02-29T12:30:05Z"), Ok(1_709_209_805));
        for bad in
            ["2023-02-29", "2023-13-01", "2023-00-01", "1969-01-01", "x", "2023-01", "2023-01-01T25:00", "-5"]
        {
            assert!(epoch(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_have_fractions() {
        assert_eq!(micros("1.5s"), Ok(1_500_000));
        assert_eq!(micros("300ms"), Ok(300_000));
        assert_eq!(micros("2"), Ok(2_000_000));
        for bad in ["", ".", "1.2.3s", "s", "1h", "99999999999999999999s", "18446744073709551615s"] {
            assert!(micros(bad).is_err(), "{bad}");
        }
    }
}
