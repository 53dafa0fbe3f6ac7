//! Each test states a rule of the answer; a reader of its own takes the answers apart.

mod answers;
mod reader;
mod refusals;
