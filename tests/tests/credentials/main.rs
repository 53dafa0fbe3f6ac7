//! Real databases are made with credentials that nobody ever saw; their clients log in with one variable alone, and go on
//! while the password changes.

mod login;
mod rotation;
mod silence;
mod stack;
mod volumes;
