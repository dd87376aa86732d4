//! What a PC's console speaks: the keys of its keyboard, and the character set of its screen.

pub mod cp437;
pub mod keymap;
