//! Packets before the protocol's parser sees them. The crate `gdbstub` ends the connection at an address
//! beyond 32 bits, takes a short `G` as if the rest were unchanged, and adds up addresses without looking for
//! an end: such packets get an error reply here, as the protocol has it (gdb manual, E.1).

use super::registers::Image;

/// The longest packet that is looked at; longer ones are the parser's, which refuses them.
const LONGEST: usize = 8192;
/// The most bytes of memory that one packet may ask for.
const MOST: u64 = 1 << 20;
/// Addresses end here.
const END: u64 = 1 << 32;
/// EINVAL, in the reply's two digits.
const REFUSED: &[u8] = b"E16";

/// What to do with bytes from gdb.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// More are needed.
    Wait,
    /// The parser gets these.
    Pass(Vec<u8>),
    /// gdb gets this, and the parser nothing.
    Reply(Vec<u8>),
}

/// Collects bytes to packets.
#[derive(Debug, Default)]
pub(super) struct Packets {
    bytes: Vec<u8>,
    /// gdb has switched acknowledgements off.
    unacknowledged: bool,
}

impl Packets {
    /// Takes the next byte from gdb.
    pub(super) fn take(&mut self, byte: u8) -> Verdict {
        if self.bytes.is_empty() && byte != b'$' {
            // An acknowledgement, an interrupt, or what the parser passes over.
            return Verdict::Pass(vec![byte]);
        }
        self.bytes.push(byte);
        let whole = self.bytes.len() > 3 && self.bytes[self.bytes.len() - 3] == b'#';
        if !whole {
            let long = self.bytes.len() > LONGEST;
            return if long { Verdict::Pass(std::mem::take(&mut self.bytes)) } else { Verdict::Wait };
        }
        let bytes = std::mem::take(&mut self.bytes);
        let (body, sum) = (&bytes[1..bytes.len() - 3], &bytes[bytes.len() - 2..]);
        // The parser asks for packets with a wrong sum again.
        if hex(sum) != Some(u64::from(checksum(body))) {
            return Verdict::Pass(bytes);
        }
        if refused(body) {
            let acknowledged = if self.unacknowledged { &b""[..] } else { b"+" };
            return Verdict::Reply([acknowledged, &framed(REFUSED)].concat());
        }
        self.unacknowledged |= body == b"QStartNoAckMode";
        Verdict::Pass(bytes)
    }
}

/// A packet with this body.
pub(super) fn framed(body: &[u8]) -> Vec<u8> {
    let mut packet = vec![b'$'];
    packet.extend_from_slice(body);
    packet.extend_from_slice(format!("#{:02x}", checksum(body)).as_bytes());
    packet
}

fn checksum(body: &[u8]) -> u8 {
    body.iter().fold(0, |sum, b| sum.wrapping_add(*b))
}

/// Whether a packet asks for what there is not.
fn refused(body: &[u8]) -> bool {
    let Some((kind, rest)) = body.split_first() else { return false };
    match kind {
        b'm' | b'M' | b'X' => !is_range(rest),
        // A kind of stop comes before the address, and a length or kind after it.
        b'Z' | b'z' => rest.get(1) != Some(&b',') || !is_range(&rest[2..]),
        b'G' => rest.len() != 2 * Image::bytes() || !rest.iter().all(u8::is_ascii_hexdigit),
        _ => false,
    }
}

/// Whether `ADDR,LEN`, up to what may follow them, lies within the 4 GiB of addresses.
fn is_range(text: &[u8]) -> bool {
    let fields = text.split(|b| matches!(b, b':' | b';')).next().unwrap_or_default();
    let mut fields = fields.split(|b| *b == b',').map(hex);
    match (fields.next().flatten(), fields.next().flatten(), fields.next()) {
        (Some(at), Some(len), None) => len <= MOST && at < END && at + len <= END,
        _ => false,
    }
}

fn hex(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| b.is_ascii_hexdigit()))?;
    u64::from_str_radix(text, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(body: &str) -> Verdict {
        let mut packets = Packets::default();
        let bytes = framed(body.as_bytes());
        let (last, first) = bytes.split_last().unwrap();
        first.iter().for_each(|b| assert_eq!(packets.take(*b), Verdict::Wait));
        packets.take(*last)
    }

    #[test]
    fn what_lies_beyond_32_bits_is_refused_and_the_rest_passes() {
        let refused = [
            "m100000000,4",
            "mfffffffe,4",
            "m0,100001",
            "m,4",
            "m0",
            "m1,2,3",
            "mzz,4",
            "M100000000,1:00",
            "Z0,100000000,1",
            "z2,1ffffffff,4",
            "Z0",
            "Z",
            "G00",
            "G",
            "m123456789abcdef01,4",
        ];
        for body in refused {
            assert_eq!(verdict(body), Verdict::Reply(b"+$E16#ac".to_vec()), "{body}");
        }
        let whole = format!("G{}", "0".repeat(2 * Image::bytes()));
        for body in ["m0,4", "mfffffffc,4", "M1000,2:abcd", "Z0,100000,1", "g", "qSupported", "", &whole] {
            assert_eq!(verdict(body), Verdict::Pass(framed(body.as_bytes())), "{body}");
        }
    }

    #[test]
    fn a_packet_with_a_wrong_sum_is_the_parsers() {
        let mut packets = Packets::default();
        let bytes = b"$m100000000,4#00";
        let verdicts: Vec<Verdict> = bytes.iter().map(|b| packets.take(*b)).collect();
        assert_eq!(verdicts.last(), Some(&Verdict::Pass(bytes.to_vec())));
    }

    #[test]
    fn acknowledgements_end_when_gdb_says_so() {
        let mut packets = Packets::default();
        let mut ask = |body: &str| framed(body.as_bytes()).into_iter().map(|b| packets.take(b)).last();
        ask("QStartNoAckMode");
        assert_eq!(ask("G00"), Some(Verdict::Reply(b"$E16#ac".to_vec())));
    }
}
