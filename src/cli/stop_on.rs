//! `--stop-on`: events that end a run before they are delivered.

use super::args;
use crate::cpu::fault::vector_name;
use crate::machine::EventStop;

/// `fault:GP`, `fault:13` or `int:0x20`.
///
/// # Errors
/// A sentence.
pub fn parse(text: &str) -> Result<EventStop, String> {
    let usage = || "give fault:NAME (fault:GP), fault:VECTOR (fault:13) or int:VECTOR (int:0x20)".to_owned();
    let (kind, vector) = text.split_once(':').ok_or_else(usage)?;
    let number = args::address(vector).ok().and_then(|n| u8::try_from(n).ok());
    match kind {
        "fault" => {
            let named = || (0..32).find(|&v| is_called(v, vector));
            let found = number.filter(|n| *n < 32).or_else(named);
            found.map(EventStop::Exception).ok_or_else(|| {
                let names: Vec<&str> = (0..32).map(short_name).filter(|n| *n != "interrupt").collect();
                format!("`{vector}` is no exception: give a vector below 32 or one of {}", names.join(", "))
            })
        }
        "int" => number.map(EventStop::Interrupt).ok_or_else(usage),
        _ => Err(usage()),
    }
}

/// The manual's abbreviation without `#`.
fn short_name(vector: u8) -> &'static str {
    vector_name(vector).trim_start_matches('#')
}

fn is_called(vector: u8, name: &str) -> bool {
    let short = short_name(vector);
    short != "interrupt" && short != "NMI" && short.eq_ignore_ascii_case(name.trim_start_matches('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_named_or_numbered() {
        for text in ["fault:GP", "fault:gp", "fault:#GP", "fault:13", "fault:0xd"] {
            assert_eq!(parse(text), Ok(EventStop::Exception(13)), "{text}");
        }
        assert_eq!(parse("int:0x20"), Ok(EventStop::Interrupt(0x20)));
        for text in ["GP", "fault:", "fault:XX", "fault:32", "int:GP", "int:256", "fault:NMI", "port:1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
