//! Debian's kernels: which is the newest, and its files.

use std::{
    env::consts,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ::tests::{apt::Apt, command};
use anyhow::{Context as _, Result, bail};

/// The oldest that Skep runs on, today's stable one, tomorrow's.
const SERIES: [&str; 3] = ["6.1", "6.12", "7"];
/// What a kernel is divided into: one package until 6.12, three from 7.0, four from 7.3, which has the list of what is
/// built in by itself.
const PARTS: [&str; 4] = ["image", "base", "binary", "modules"];
/// Unpacks a package but for what no test needs, which is most of it.
const UNPACK: &str = "dpkg-deb --fsys-tarfile \"$1\" | tar --extract --directory \"$2\" --keep-directory-symlink \
    --exclude './usr/share' --exclude '*/kernel/sound' --exclude '*/kernel/fs/[!ejmo]*' \
    --exclude '*/kernel/drivers/[!bnv]*' --exclude '*/kernel/drivers/net/[!w]*/*' \
    --exclude '*/kernel/drivers/net/wireless/*' --exclude '*/kernel/drivers/net/w[!i]*/*' --exclude '*/kernel/drivers/n[!e]*'";

/// A kernel, unpacked.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    release: String,
    directory: PathBuf,
}

impl Kernel {
    /// `uname -r`.
    pub(super) fn release(&self) -> &str {
        &self.release
    }

    /// Its own directory: its files, its initramfs, its console.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// What QEMU boots.
    pub(super) fn image(&self) -> PathBuf {
        self.directory.join("vmlinuz")
    }

    /// The files of modules and of what they depend on, in the order of loading.
    pub(super) fn modules(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for module in wanted {
            let mut modprobe = Command::new("/sbin/modprobe");
            modprobe
                .args(["--show-depends", "--set-version", &self.release, "--dirname"])
                .arg(self.directory.join("root"));
            let lines =
                command::run(modprobe.arg(module)).with_context(|| format!("module {module} of {}", self.release))?;
            // `insmod /path/file.ko [options]` or, when it is not a module here, `builtin name`.
            for file in lines.lines().filter_map(|line| line.strip_prefix("insmod ")?.split_whitespace().next()) {
                let file = PathBuf::from(file);
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}

/// The newest kernel of each series, or of each of [`SERIES`], downloaded and unpacked below `directory` unless it is
/// there.
pub(super) fn newest(directory: &Path, series: &[String]) -> Result<Vec<Kernel>> {
    let series: Vec<&str> =
        if series.is_empty() { SERIES.to_vec() } else { series.iter().map(String::as_str).collect() };
    let apt = Apt::new()?;
    let meta = format!("linux-image-{}", architecture()?);
    let versions = apt.versions(&meta)?;
    let mut kernels = Vec::new();
    for series in series {
        let version = versions.iter().find(|version| is_of(version, series));
        let version = version.with_context(|| format!("no kernel {series}.* among Debian's releases"))?;
        let release = release(&apt.show(&format!("{meta}={version}")).unwrap_or_default());
        let release = release.with_context(|| format!("{meta} {version} names no kernel"))?;
        let kernel = Kernel { directory: directory.join(&release), release };
        // What is taken out of which packages is another thing now and then.
        let (stamp, there) = (kernel.directory.join("unpacked"), kernel.image().is_file());
        let how = format!("{}\n{UNPACK}", PARTS.join(" "));
        if !there || fs::read_to_string(&stamp).ok().as_ref() != Some(&how) {
            unpack(&apt, &kernel)?;
            fs::write(stamp, how)?;
        }
        kernels.push(kernel);
    }
    Ok(kernels)
}

/// Whether a version is of a series: 6.12.5-1 is of 6.12 and of 6, but not of 6.1.
fn is_of(version: &str, series: &str) -> bool {
    version.strip_prefix(series).is_some_and(|rest| rest.starts_with('.'))
}

/// `6.1.0-56-amd64` out of `Depends: linux-image-6.1.0-56-amd64 (= 6.1.192-2)`.
fn release(description: &str) -> Option<String> {
    let depends = description.lines().find_map(|line| line.strip_prefix("Depends: "))?;
    depends
        .split(", ")
        .find_map(|package| package.strip_prefix("linux-image-")?.split_whitespace().next())
        .map(str::to_owned)
}

/// Downloads a kernel's packages and takes out what is needed.
fn unpack(apt: &Apt, kernel: &Kernel) -> Result<()> {
    println!("Fetching kernel {} …", kernel.release);
    let (root, downloads) = (kernel.directory.join("root"), kernel.directory.join("downloads"));
    for directory in [&root.join("usr/lib"), &downloads] {
        fs::create_dir_all(directory)?;
    }
    // Older packages say /lib, newer /usr/lib.
    let _there = std::os::unix::fs::symlink("usr/lib", root.join("lib"));
    let parts = PARTS.map(|part| format!("linux-{part}-{}", kernel.release));
    let parts: Vec<String> = parts.into_iter().filter(|part| apt.show(part).is_some()).collect();
    apt.download(&parts, &downloads)?;
    for package in fs::read_dir(&downloads)? {
        command::run(Command::new("sh").args(["-ec", UNPACK, "unpack"]).arg(package?.path()).arg(&root))?;
    }
    command::run(Command::new("/sbin/depmod").arg("--basedir").arg(&root).arg(&kernel.release))?;
    fs::remove_dir_all(&downloads)?;
    let images = [
        root.join("boot").join(format!("vmlinuz-{}", kernel.release)),
        root.join("usr/lib/modules").join(&kernel.release).join("vmlinuz"),
    ];
    let image = images.iter().find(|image| image.is_file()).with_context(|| format!("{parts:?} have no kernel"))?;
    // Last: it says that all the rest is there.
    fs::rename(image, kernel.image())?;
    Ok(())
}

/// Debian's word for this computer's processor.
fn architecture() -> Result<&'static str> {
    match consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => bail!("no kernels for {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_of, release};

    #[test]
    fn a_series_is_whole_numbers() {
        assert!(is_of("6.12.5-1", "6.12") && is_of("6.12.5-1", "6"));
        assert!(!is_of("6.12.5-1", "6.1") && !is_of("7.2.12-1", "6"));
    }

    #[test]
    fn a_release_is_what_the_metapackage_depends_on() {
        let old = "Package: linux-image-amd64\nDepends: linux-image-6.1.0-56-amd64 (= 6.1.192-2)\n";
        assert_eq!(release(old).as_deref(), Some("6.1.0-56-amd64"));
        let new = "Depends: linux-base-amd64 (= 7.2.12-1), linux-image-7.2.12+deb13-amd64 (= 7.2.12-1)";
        assert_eq!(release(new).as_deref(), Some("7.2.12+deb13-amd64"));
    }
}
