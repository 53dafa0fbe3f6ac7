//! `skepd` with the ABI that comes after this one: for the test of the upgrade.

#[path = "main.rs"]
mod skepd;

fn main() -> std::process::ExitCode {
    skepd::main()
}
