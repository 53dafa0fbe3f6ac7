//! What a guest boots into: the tests, what they call, their libraries, PID 1.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use tests::command;

use super::kernel::Kernel;
use crate::test::targets::Target;

/// PID 1 of the guest.
const INIT: &str = include_str!("init.sh");
/// What the tests need where it is not built in.
const MODULES: [&str; 9] =
    ["veth", "bridge", "tun", "dummy", "sch_ingress", "cls_bpf", "nf_tables", "nft_chain_nat", "nft_masq"];
/// Programs that tests call, beside busybox's.
const TOOLS: [&str; 4] = ["ip", "nft", "nsenter", "bpftool"];
/// Where programs are; not all of it is on everybody's path.
const PROGRAMS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Makes the part that all kernels share; gives the archive.
pub(super) fn base(directory: &Path, programs: &[Target]) -> Result<PathBuf> {
    let root = directory.join("initramfs");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    for name in ["bin", "dev", "etc", "modules", "proc", "run", "sys", "tests", "tmp", "usr/sbin", "var/tmp"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("/bin/busybox: install busybox-static")?;
    symlink("busybox", root.join("bin/sh"))?;
    fs::write(root.join("init"), INIT)?;
    fs::set_permissions(root.join("init"), fs::Permissions::from_mode(0o755))?;
    let mut libraries = BTreeSet::new();
    for tool in TOOLS {
        let path = PROGRAMS.iter().map(|directory| Path::new(directory).join(tool)).find(|path| path.is_file());
        let path = path.with_context(|| format!("{tool} is not installed"))?;
        libraries.extend(libraries_of(&path)?);
        fs::copy(&path, root.join("usr/sbin").join(tool))?;
    }
    for program in programs {
        libraries.extend(libraries_of(&program.executable)?);
        // Debugging information is most of a test program.
        let stripped = root.join("tests").join(&program.name);
        command::run(Command::new("strip").arg("-o").arg(stripped).arg(&program.executable))?;
    }
    for library in libraries {
        let copy = root.join(library.strip_prefix("/").unwrap_or(&library));
        fs::create_dir_all(copy.parent().context("a library without a directory")?)?;
        fs::copy(&library, copy)?;
    }
    let archive = directory.join("base.cpio");
    pack(&root, &archive)?;
    Ok(archive)
}

/// The whole initramfs of a kernel: the shared part and its modules, which the kernel unpacks one after the other.
pub(super) fn with_modules(kernel: &Kernel, base: &Path) -> Result<PathBuf> {
    let root = kernel.directory().join("modules");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    add_modules(&root, &kernel.modules(&MODULES)?)?;
    let archive = kernel.directory().join("initramfs.cpio");
    pack(&root, &archive)?;
    let modules = fs::read(&archive)?;
    let mut whole = fs::read(base)?;
    whole.extend(modules);
    fs::write(&archive, whole)?;
    Ok(archive)
}

/// Puts modules into `/modules` of a root, named in the order in which they have to be loaded.
pub(super) fn add_modules(root: &Path, modules: &[PathBuf]) -> Result<()> {
    fs::create_dir_all(root.join("modules"))?;
    for (place, module) in modules.iter().enumerate() {
        let name = module.file_name().context("a module without a name")?.to_string_lossy().into_owned();
        let copy = root.join("modules").join(format!("{place:02}-{name}"));
        fs::copy(module, &copy)?;
        // busybox's insmod wants them plain.
        if name.ends_with(".xz") {
            command::run(Command::new("xz").arg("--decompress").arg(&copy))?;
        }
    }
    Ok(())
}

/// The libraries and the loader that a program is linked to.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let output = command::output(Command::new("ldd").arg(program))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// Packs a directory in the form that the kernel unpacks.
pub(super) fn pack(root: &Path, archive: &Path) -> Result<()> {
    let mut cpio = Command::new("cpio")
        .args(["--create", "--null", "--quiet", "--format=newc", "--owner=0:0", "--file"])
        .arg(archive)
        .current_dir(root)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot start cpio")?;
    let names = command::output(Command::new("find").args([".", "-print0"]).current_dir(root))?.stdout;
    cpio.stdin.take().context("piped")?.write_all(&names)?;
    ensure!(cpio.wait()?.success(), "cpio cannot pack {}", root.display());
    Ok(())
}
