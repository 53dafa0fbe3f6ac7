//! Files of a service's containers.

use std::collections::BTreeMap;

use super::Check;
use crate::model::ServiceSpec;
use crate::model::file::File;

/// What Docker writes for each container: the private network's names are in there.
const DOCKERS: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
/// What the kernel shows; files below would be behind it.
const KERNELS: [&str; 3] = ["/dev/", "/proc/", "/sys/"];

/// The bits that chmod(2) knows.
const MODE_BITS: u32 = 0o7777;

impl Check<'_> {
    pub(super) fn files(&mut self, path: &str, service: &ServiceSpec) {
        for (target, file) in &service.files {
            self.file(path, service, target, file);
        }
        if service.settings.read_only && !service.files.is_empty() {
            self.problem(
                format!("{path}.read_only"),
                "a container that cannot be written to gets no files either",
                "remove read_only, or put the files into the image",
            );
        }
    }

    fn file(&mut self, path: &str, service: &ServiceSpec, target: &str, file: &File) {
        let odd = |part: &str| matches!(part, "" | "." | "..") || part.contains(char::is_control);
        if target.strip_prefix('/').is_none_or(|rest| rest.split('/').any(odd)) {
            let what = format!("{target:?} is no path for a file");
            self.problem(path, what, "write an absolute path in the container");
        }
        if DOCKERS.contains(&target) {
            let remedy = "remove it; hostname, extra_hosts and dns_search say what is to be in there";
            self.problem(path, format!("{target} is made for each container"), remedy);
        }
        if KERNELS.iter().any(|kernels| target.starts_with(kernels)) {
            let what = format!("{target} would be hidden behind what the kernel shows there");
            self.problem(path, what, "put it elsewhere");
        }
        if file.mode & !MODE_BITS != 0 {
            self.problem(path, format!("{:o} is no mode of {target}", file.mode), "write it in octal, as 0440");
        }
        if let Some(over) = above(&service.settings.tmpfs, target) {
            let what =
                format!("the file {target} would be below {over}, which is empty memory when a container starts");
            self.problem(path, what, "put it elsewhere, or remove the tmpfs");
        }
        if service.volumes.iter().any(|volume| volume.target.trim_end_matches('/') == target) {
            self.problem(path, format!("{target} is a file and a volume"), "keep one of them");
        }
        let below = format!("{target}/");
        if let Some(other) = service.files.keys().find(|other| other.starts_with(&below)) {
            self.problem(path, format!("{target} is a file, and {other} is below it"), "keep one of them");
        }
    }
}

/// The mount that a path is below.
fn above<'a, T>(mounts: &'a BTreeMap<String, T>, path: &str) -> Option<&'a str> {
    let holds =
        |mount: &&String| path.strip_prefix(mount.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'));
    mounts.keys().find(holds).map(String::as_str)
}
