//! Pulling an image from a registry, through this computer's network and not the engine's.
//!
//! A node's engine has no internet. To give an engine this computer's own network, if only for a pull, is no way: with
//! `--bridge=none`, dockerd removes the `docker0` it finds, which is another engine's, and turns forwarding on.
//! skopeo only talks to the registry. It runs as nobody, so that it writes to one directory and
//! nowhere else, and ends with the machine whatever happens here.

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;

use super::{Archive, Registry, cache};
use crate::{command, machine::Machine, process::Process, wait::wait_for};

/// The user `nobody` and its group, by Debian's policy.
const NOBODY: u32 = 65534;
/// Where skopeo would look for a user's files.
const HOMES: [&str; 3] = ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"];

/// How long a registry may be silent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Until it has said what an image consists of: name look-up, connection and answer together.
    pub answer: Duration,
    /// Between two parts of a download, which takes as long as it needs otherwise.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { answer: Duration::from_secs(10), silence: Duration::from_secs(30) }
    }
}

/// An image that was pulled.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pulled {
    /// The name under which it is loaded: `docker.io/library/postgres:17-alpine`.
    pub name: String,
    /// The digest behind the tag, of all architectures where there are several: `sha256:…`.
    pub digest: String,
}

/// Pulls `image` (`postgres:17-alpine`) and loads it into the engine at `docker`; `progress` gets the bytes so far.
///
/// It is kept in `target/images/pulled`: only its digest is asked for as long as that stays the same.
pub(crate) fn pull(
    machine: &Machine,
    docker: &str,
    (registry, image): (&Registry, &str),
    limits: Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Pulled> {
    let name = registry.image(image);
    let all = cache()?.join("pulled");
    fs::create_dir_all(&all)?;
    // The lock goes with the file.
    let lock = File::create(all.join("lock"))?;
    lock.lock()?;
    let kept = all.join(name.replace('/', "_"));
    let skopeo = Skopeo::new(machine, registry)?;
    let digest = skopeo.digest(&name, limits.answer)?;
    let digest_file = kept.join("digest");
    if fs::read_to_string(&digest_file).is_ok_and(|known| known == digest) {
        progress(size(&kept)?);
    } else {
        // By digest: the tag may be another image by now.
        let from = format!("{}@{digest}", name.rsplit_once(':').map_or(name.as_str(), |(it, _tag)| it));
        let blobs = skopeo.copy(&from, limits.silence, progress)?;
        command::run(Command::new("chown").args(["--recursive", "root:root"]).arg(&blobs))?;
        // Another image by that name, perhaps, or a part of one.
        let _absent = fs::remove_dir_all(&kept);
        // Not a rename, which ends at a file system's border.
        command::run(Command::new("mv").args([&blobs, &kept]))?;
        // Last: it says that all the rest is there.
        fs::write(&digest_file, &digest)?;
    }
    load(machine, docker, &name, &kept).inspect_err(|_| {
        // What cannot be loaded is not worth keeping.
        let _absent = fs::remove_file(&digest_file);
    })?;
    Ok(Pulled { name, digest })
}

/// Loads a downloaded image under its name.
fn load(machine: &Machine, docker: &str, name: &str, directory: &Path) -> Result<()> {
    let mut archive = Archive::new(machine.directory())?;
    let parts = Parts::read(directory)?;
    archive.add(name, &fs::read(parts.config)?, &parts.layers)?;
    archive.load(docker)
}

/// skopeo, for one image.
struct Skopeo<'a> {
    machine: &'a Machine,
    /// Its home, and where blobs go; it goes with the machine's directory.
    directory: PathBuf,
    verify_tls: bool,
}

impl<'a> Skopeo<'a> {
    fn new(machine: &'a Machine, registry: &Registry) -> Result<Self> {
        let directory = machine.directory().join("pull");
        // One that came to nothing before.
        let _absent = fs::remove_dir_all(&directory);
        fs::create_dir(&directory)?;
        chown(&directory, Some(NOBODY), Some(NOBODY))?;
        // Whatever the umask is: nobody has to get there.
        fs::set_permissions(machine.directory(), fs::Permissions::from_mode(0o711))?;
        Ok(Self { machine, directory, verify_tls: !registry.is_loopback() })
    }

    /// skopeo with these arguments, under the programs of `before`.
    fn command(&self, before: &[&str], arguments: &[&str]) -> Command {
        let nobody = NOBODY.to_string();
        let setpriv = ["setpriv", "--reuid", &nobody, "--regid", &nobody, "--clear-groups", "--no-new-privs"];
        let home = self.directory.display().to_string();
        let skopeo = ["skopeo", "--insecure-policy", "--tmpdir", &home];
        let mut command = self.machine.companion(&[&setpriv[..], before, &skopeo[..], arguments].concat());
        command.current_dir(&self.directory).env("HOME", &self.directory);
        for name in HOMES {
            command.env_remove(name);
        }
        command
    }

    /// The digest of the manifest that a tag stands for.
    fn digest(&self, name: &str, limit: Duration) -> Result<String> {
        let limit = limit.as_secs_f64().to_string();
        let verify = format!("--tls-verify={}", self.verify_tls);
        let arguments = ["inspect", "--raw", "--no-creds", &verify, &format!("docker://{name}")];
        let output = command::output(&mut self.command(&["timeout", "--kill-after=1", &limit], &arguments))?;
        // timeout's own status.
        ensure!(output.status.code() != Some(124), "no answer within {limit} s");
        ensure!(output.status.success(), "{}", reason(&String::from_utf8_lossy(&output.stderr)));
        let manifest = self.directory.join("manifest");
        // Not as text: the digest is that of the bytes.
        fs::write(&manifest, &output.stdout)?;
        let sum = command::run(Command::new("sha256sum").arg(&manifest))?;
        fs::remove_file(manifest)?;
        Ok(format!("sha256:{}", sum.split_whitespace().next().context("sha256sum gave nothing")?))
    }

    /// Downloads what this computer's architecture needs; gives the directory with the blobs.
    fn copy(&self, from: &str, silence: Duration, progress: &mut dyn FnMut(u64)) -> Result<PathBuf> {
        let blobs = self.directory.join("blobs");
        let verify = format!("--src-tls-verify={}", self.verify_tls);
        let to = format!("dir:{}", blobs.display());
        let command = self.command(&[], &["copy", "--src-no-creds", &verify, &format!("docker://{from}"), &to]);
        let mut skopeo = Process::start(command, &self.machine.directory().join("skopeo.log"))?;
        let mut received = 0;
        let status = loop {
            let what = format!("more of {from}");
            let (now, ended) = wait_for(&what, silence, || {
                // In this order: what it wrote last is counted.
                let ended = skopeo.ended()?;
                let now = size(&blobs)?;
                Ok((ended.is_some() || now != received).then_some((now, ended)))
            })?;
            received = now;
            progress(received);
            if let Some(status) = ended {
                break status;
            }
        };
        if !status.success() {
            bail!("{}", reason(&skopeo.log()?));
        }
        Ok(blobs)
    }
}

/// Bytes in the files of a directory; none where there is no directory.
fn size(directory: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory).into_iter().flatten() {
        // Files come and go under a download's hands.
        sum += entry?.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(sum)
}

/// What skopeo complains about, without what it was about.
fn reason(log: &str) -> String {
    let last = log.lines().rev().find(|line| !line.is_empty()).unwrap_or("skopeo said nothing");
    let message = last.split_once("msg=").map_or(last, |(_, message)| message.trim_matches('"'));
    // After the URL, if there is one.
    message.rsplit_once("\\\": ").map_or(message, |(_, end)| end).to_owned()
}

/// Where the parts of a downloaded image are.
struct Parts {
    config: PathBuf,
    layers: Vec<PathBuf>,
}

/// The manifest of one architecture: Docker's (version 2, schema 2) and the OCI's have these names in common.
#[derive(Deserialize)]
struct Manifest {
    config: Blob,
    layers: Vec<Blob>,
}

#[derive(Deserialize)]
struct Blob {
    digest: String,
}

impl Parts {
    /// skopeo's `dir:` has a file per blob, named by the digest without its algorithm.
    fn read(directory: &Path) -> Result<Self> {
        let manifest = fs::read(directory.join("manifest.json"))?;
        let Manifest { config, layers } = serde_json::from_slice(&manifest).context("not a manifest of an image")?;
        let path = |blob: &Blob| directory.join(blob.digest.rsplit(':').next().unwrap_or_default());
        Ok(Self { config: path(&config), layers: layers.iter().map(path).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn a_reason_is_the_end_of_what_skopeo_says() {
        let log = r#"time="t" level=info msg="before"
time="t" level=fatal msg="Error parsing image name \"docker://a.b/c:1\": pinging container registry a.b: Get \"https://a.b/v2/\": dial tcp: lookup a.b: no such host"
"#;
        assert_eq!(reason(log), "dial tcp: lookup a.b: no such host");
        assert_eq!(
            reason("nsenter: failed to execute skopeo: No such file or directory\n"),
            "nsenter: failed to execute skopeo: No such file or directory"
        );
        assert_eq!(reason(""), "skopeo said nothing");
    }
}
