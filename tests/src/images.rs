//! Container images: made on this computer from Debian or Ubuntu packages, or pulled from a registry.
//!
//! One that is made is one layer and a configuration. Layers are kept as `target/images/<layer>.tar` and made
//! again when their recipe changes; PostgreSQL, Redis and the tools share one.

mod archive;
mod databases;
mod debian;
pub(crate) mod packages;
mod pull;
mod recipe;
mod registry;
mod small;

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use self::archive::Archive;
pub(crate) use self::pull::pull;
pub use self::{
    databases::Database,
    pull::{Limits, Pulled},
    registry::Registry,
};
use crate::{command, machine::Machine, paths};

/// An image that tests use, and its tag.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Image {
    /// `busybox:latest`: the smallest, with a shell.
    Busybox,
    /// `tools:latest`: Python, curl, dig, ip, ncat, socat, ping, tcpdump, psql, redis-cli.
    Tools,
    /// `postgres:latest`: PostgreSQL with an entrypoint like the official image's.
    Postgres,
    /// `redis:latest`, as open as the official image.
    Redis,
    /// `musl:latest`: busybox, and `resolve NAME` with musl's `getaddrinfo`: an address a line; `serve NAME` answers
    /// load and probes from inside; `web [WORD…]` is a web server that behaves as the words say (`small/web.c`).
    Musl,
    /// `go:latest`: `probe lookup NAME` and `probe get URL` with Go's own resolver, nothing else.
    Go,
    /// `postgres:17`, `mariadb:11`, `redis:8`, `valkey/valkey:8`: as the official images, of Debian 13's packages.
    Database(Database),
    /// `clients:latest`: the clients of all of these, and Python.
    Clients,
    /// `registry:latest`: a registry of images on port 5000 of loopback, for a container on the engine's own network.
    Registry,
}

/// What an image consists of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Layer {
    Busybox,
    Databases,
    Debian,
    Go,
    Musl,
    Registry,
}

impl Image {
    /// The name and tag under which it is loaded.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::Busybox => "busybox:latest",
            Self::Tools => "tools:latest",
            Self::Postgres => "postgres:latest",
            Self::Redis => "redis:latest",
            Self::Musl => "musl:latest",
            Self::Go => "go:latest",
            Self::Database(database) => database.tag(),
            Self::Clients => "clients:latest",
            Self::Registry => "registry:latest",
        }
    }

    fn layer(self) -> Layer {
        match self {
            Self::Busybox => Layer::Busybox,
            Self::Tools | Self::Postgres | Self::Redis => Layer::Debian,
            Self::Musl => Layer::Musl,
            Self::Go => Layer::Go,
            Self::Database(_) | Self::Clients => Layer::Databases,
            Self::Registry => Layer::Registry,
        }
    }
}

impl Layer {
    fn name(self) -> &'static str {
        match self {
            Self::Busybox => "busybox",
            Self::Databases => "databases",
            Self::Debian => "debian",
            Self::Go => "go",
            Self::Musl => "musl",
            Self::Registry => "registry",
        }
    }

    /// Everything the layer depends on; it is made again when this changes.
    fn recipe(self) -> String {
        match self {
            Self::Busybox => small::BUSYBOX_RECIPE.to_owned(),
            Self::Databases => databases::recipe(),
            Self::Debian => debian::recipe(),
            Self::Go => small::GO_SOURCE.to_owned(),
            Self::Musl => [small::MUSL_SOURCE, small::SERVE_SOURCE, small::WEB_SOURCE].concat(),
            Self::Registry => small::registry_recipe(),
        }
    }

    fn make(self, root: &Path) -> Result<()> {
        match self {
            Self::Busybox => small::busybox(root),
            Self::Databases => databases::make(root),
            Self::Debian => debian::make(root),
            Self::Go => small::go(root),
            Self::Musl => small::musl(root),
            Self::Registry => small::registry(root),
        }
    }
}

/// A layer that is there: its archive and its digest.
#[derive(Debug)]
struct Made {
    archive: PathBuf,
    sha256: String,
}

/// Makes the images that are not there yet (under `target/images`) and says so on standard error.
///
/// # Errors
/// A package is missing or cannot be downloaded.
pub fn ensure(images: &[Image]) -> Result<()> {
    for image in images {
        made(image.layer()).with_context(|| format!("cannot make the image {}", image.tag()))?;
    }
    Ok(())
}

/// Makes images if need be and loads them into the machine's engine at `docker` (`unix:///…`).
///
/// # Errors
/// An image cannot be made, or the engine refuses it.
pub(crate) fn load(machine: &Machine, docker: &str, images: &[Image]) -> Result<()> {
    // In the machine's directory: it goes with the machine at the latest.
    archive(machine.directory(), images)?.load(docker)
}

/// Makes images if need be and writes them to `file`, in the directory that it is in, as `docker load` takes them.
///
/// # Errors
/// An image cannot be made, or the file not be written.
pub fn save(images: &[Image], file: &Path) -> Result<()> {
    archive(file.parent().unwrap_or(Path::new(".")), images)?.save(file)
}

fn archive(directory: &Path, images: &[Image]) -> Result<Archive> {
    let mut archive = Archive::new(directory)?;
    for image in images {
        let layer = made(image.layer()).with_context(|| format!("cannot make the image {}", image.tag()))?;
        archive.add(image.tag(), recipe::config(*image, &layer.sha256).to_string().as_bytes(), &[layer.archive])?;
    }
    Ok(archive)
}

/// The packages that an image's server comes from, as `<name> <version>`; made first if it is not there yet.
///
/// # Errors
/// It cannot be made.
pub fn packages(image: Image) -> Result<Vec<String>> {
    let server = |name: &str| match image {
        // postgresql-15, not postgresql, which has a version of its own, nor postgresql-client-15.
        Image::Postgres => name.strip_prefix("postgresql-").is_some_and(|it| it.chars().all(|it| it.is_ascii_digit())),
        Image::Redis => name == "redis-server",
        Image::Registry => name == "docker-registry",
        Image::Busybox | Image::Clients | Image::Database(_) | Image::Go | Image::Musl | Image::Tools => false,
    };
    packages::list(&made(image.layer())?.archive, server)
}

/// The layer, made now if it is not there or its recipe is another by now.
fn made(layer: Layer) -> Result<Made> {
    let cache = cache()?;
    let archive = cache.join(format!("{}.tar", layer.name()));
    let (recipe_file, digest_file) = (archive.with_extension("recipe"), archive.with_extension("sha256"));
    // Several tests may want it at once, in several processes; the lock goes with the file.
    let lock = File::create(archive.with_extension("lock"))?;
    lock.lock()?;
    if fs::read_to_string(&recipe_file).is_ok_and(|recipe| recipe == layer.recipe()) {
        return Ok(Made { archive, sha256: fs::read_to_string(digest_file)? });
    }
    eprintln!("Making the image layer {} (once) …", layer.name());
    let root = archive.with_extension("root");
    // Of one who was interrupted.
    let _absent = fs::remove_dir_all(&root);
    fs::create_dir(&root)?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
    layer.make(&root)?;
    command::run(
        Command::new("tar")
            .args(["--create", "--numeric-owner", "--file"])
            .arg(&archive)
            .arg("--directory")
            .arg(&root)
            .arg("."),
    )?;
    fs::remove_dir_all(&root)?;
    let sum = command::run(Command::new("sha256sum").arg(&archive))?;
    let sha256 = sum.split_whitespace().next().context("sha256sum gave nothing")?.to_owned();
    fs::write(digest_file, &sha256)?;
    // Last: it says that all the rest is there.
    fs::write(recipe_file, layer.recipe())?;
    Ok(Made { archive, sha256 })
}

/// `target/images`.
fn cache() -> Result<PathBuf> {
    let cache = paths::target().join("images");
    fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    Ok(cache.canonicalize()?)
}
