//! The checkers, checked: histories of a serial executor must pass, and each kind of damage be found.

mod append;
mod register;
mod set;
