//! memtest
