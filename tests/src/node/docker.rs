//! The node's own Docker Engine.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::{Map, Value};

use super::{Node, lock};
use crate::wait::wait_for;

/// The engine takes this long to start or stop on a busy computer.
const DEADLINE: Duration = Duration::from_secs(60);

impl Node {
    /// The Unix socket of its Docker.
    #[must_use]
    pub fn docker_socket(&self) -> PathBuf {
        self.machine.directory().join("docker.sock")
    }

    /// The same as a URL, for `docker --host` and `skepd --docker`.
    #[must_use]
    pub fn docker_url(&self) -> String {
        format!("unix://{}", self.docker_socket().display())
    }

    /// `docker <arguments>`; it must succeed. Gives its output.
    ///
    /// # Errors
    /// What docker says.
    pub fn docker(&self, arguments: &[&str]) -> Result<String> {
        let url = self.docker_url();
        self.run(&[&["docker", "--host", &url], arguments].concat())
    }

    /// Starts dockerd and waits until it answers.
    ///
    /// # Errors
    /// It ends, or does not answer within a minute.
    pub fn start_docker(&self) -> Result<()> {
        let directory = self.machine.directory();
        // The file keeps this computer's own /etc/docker/daemon.json out of it.
        fs::write(directory.join("daemon.json"), self.daemon_json(directory).to_string())?;
        let config = directory.join("daemon.json").display().to_string();
        let program = lock(&self.dockerd_path).display().to_string();
        let mut dockerd = self.machine.spawn("dockerd", &[&program, "--config-file", &config])?;
        let socket = self.docker_socket();
        wait_for("an answer of dockerd", DEADLINE, || {
            Ok(match dockerd.must_be_running() {
                Ok(()) => answers(&socket).then_some(Ok(())),
                Err(ended) => Some(Err(ended)),
            })
        })??;
        *lock(&self.dockerd) = Some(dockerd);
        Ok(())
    }

    /// From the next start on it is another engine.
    pub fn replace_dockerd(&self, path: impl Into<PathBuf>) {
        *lock(&self.dockerd_path) = path.into();
    }

    /// From the next start on its `daemon.json` has these lines as well, instead of those of the last call.
    pub fn set_docker_options(&self, options: Map<String, Value>) {
        *lock(&self.dockerd_options) = options;
    }

    /// Stops dockerd by a signal and waits until it is gone.
    ///
    /// # Errors
    /// It does not run, or does not end.
    pub fn stop_docker(&self, signal: Signal) -> Result<()> {
        let mut dockerd = lock(&self.dockerd).take().context("dockerd is not running")?;
        dockerd.signal(signal)?;
        dockerd.wait(DEADLINE)?;
        // After a SIGKILL it finds its old PID file, whose PID may be another process by now.
        let _absent = fs::remove_file(self.machine.directory().join("dockerd.pid"));
        Ok(())
    }

    /// Sends dockerd a signal.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal_docker(&self, signal: Signal) -> Result<()> {
        lock(&self.dockerd).as_ref().context("dockerd is not running")?.signal(signal)
    }

    /// The PID of dockerd, as the test sees it.
    ///
    /// # Errors
    /// It does not run.
    pub fn dockerd_pid(&self) -> Result<Pid> {
        Ok(lock(&self.dockerd).as_ref().context("dockerd is not running")?.pid())
    }

    /// What dockerd has logged so far, over all its starts.
    ///
    /// # Errors
    /// It has never been started.
    pub fn dockerd_log(&self) -> Result<String> {
        let path = self.machine.directory().join("dockerd.log");
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// IPv6 on the default bridge and ip6tables: isolation is tested against a dual-stack Docker.
    fn daemon_json(&self, directory: &Path) -> Value {
        let mut options = serde_json::json!({
            "log-level": "warn",
            "hosts": [self.docker_url()],
            "data-root": directory.join("docker"),
            "exec-root": directory.join("docker-run"),
            "pidfile": directory.join("dockerd.pid"),
            "cgroup-parent": format!("/{}", self.machine.name()),
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "live-restore": self.live_restore,
            "bip": "172.30.0.1/24",
            "default-address-pools": [{ "base": "172.31.0.0/16", "size": 24 }],
            "ipv6": true,
            "fixed-cidr-v6": "fdd0:c6e2::/64",
            // ip6tables is experimental until Engine 27.
            "experimental": true,
            "ip6tables": true,
        });
        for (key, value) in lock(&self.dockerd_options).iter() {
            options[key] = value.clone();
        }
        options
    }
}

/// Whether `GET /_ping` is answered.
fn answers(socket: &Path) -> bool {
    let ping = || -> std::io::Result<[u8; 12]> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status)
    };
    ping().is_ok_and(|status| status.ends_with(b" 200"))
}
