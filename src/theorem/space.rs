//! Every state of a machine of four words, within an alphabet: what the classification and the exhaustive
//! tests go through. Storage of four words is enough: no instruction touches more than three cells and its
//! own word.

use super::isa::Instruction;
use super::machine::{Mode, Psw, State, Word};

/// q of the small machine.
pub const WORDS: usize = 4;

/// What its cells hold besides the instruction: numbers that are addresses, and PSWs that differ from each
/// other in M, P, l and b.
pub const ALPHABET: [Word; 4] =
    [0, 1, Psw::new(Mode::User, 0, 1, 2).word(), Psw::new(Mode::Supervisor, 1, 0, 4).word()];

/// The words of an instruction with every pair of operands from 0 to 3; 3 is out of bounds in most states.
pub fn words(instruction: &Instruction) -> impl Iterator<Item = Word> {
    let all = WORDS as u8;
    let (xs, ys) = match instruction.operands.len() {
        0 => (1, 1),
        1 => (all, 1),
        _ => (all, all),
    };
    let instruction = *instruction;
    (0..xs).flat_map(move |x| (0..ys).map(move |y| instruction.word(x, y)))
}

/// Visits every state in supervisor mode with `word` at P: all R that let P be reached (b also larger than
/// what is left of storage), all P, all contents of the other cells. The visitor makes the twin in user mode
/// if it wants it.
pub fn each_state(word: Word, mut visit: impl FnMut(&State)) {
    let mut s = State { storage: vec![0; WORDS], psw: Psw::new(Mode::Supervisor, 0, 0, 0) };
    for l in 0..WORDS {
        for b in 1..=WORDS + 1 {
            for p in 0..b.min(WORDS - l) {
                s.psw = Psw::new(Mode::Supervisor, p as u8, l as u8, b as u8);
                for contents in 0..ALPHABET.len().pow(WORDS as u32 - 1) {
                    fill(&mut s.storage, l + p, word, contents);
                    visit(&s);
                }
            }
        }
    }
}

/// `word` at `at`; the other cells from the digits of `contents` in base 4.
fn fill(storage: &mut [Word], at: usize, word: Word, mut contents: usize) {
    for (n, cell) in storage.iter_mut().enumerate() {
        *cell = if n == at {
            word
        } else {
            let digit = contents % ALPHABET.len();
            contents /= ALPHABET.len();
            ALPHABET[digit]
        };
    }
}
