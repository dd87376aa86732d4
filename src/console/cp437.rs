//! Code page 437, the character set in the ROM of the VGA, as Unicode: for showing its text screen.

/// The glyphs of codes 00-1F.
const LOW: &str = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";

/// The glyphs of codes 80-FF.
const HIGH: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
                    └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ ";

/// The character that `code` shows; 00 and FF are blank.
pub fn to_char(code: u8) -> char {
    match code {
        0x00..=0x1f => LOW.chars().nth(code.into()).unwrap_or(' '),
        0x7f => '⌂',
        0x80.. => HIGH.chars().nth(usize::from(code - 0x80)).unwrap_or(' '),
        _ => code.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_glyphs_are_where_they_belong() {
        let pairs =
            [(0x41, 'A'), (0x01, '☺'), (0x1f, '▼'), (0x80, 'Ç'), (0xc4, '─'), (0xdb, '█'), (0xfe, '■')];
        for (code, c) in pairs {
            assert_eq!(to_char(code), c, "{code:#x}");
        }
        assert_eq!((LOW.chars().count(), HIGH.chars().count()), (32, 128));
    }
}
