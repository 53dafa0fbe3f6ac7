//! The eBPF object that this build carries.

/// The object file, aligned as the ELF reader needs it: all programs and maps of `dataplane-ebpf`.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/skep"));
