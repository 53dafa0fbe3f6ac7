use std::path::PathBuf;

use clap::Subcommand;

/// What `skepd` does.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground (the default).
    Run,
    /// Say in one screen what this machine lacks, and how to mend it; changes nothing.
    Check,
    /// Write the store, as it is at this moment, to an encrypted file; the daemon may run meanwhile. Data in volumes is not
    /// in it.
    Backup {
        /// Where to.
        file: PathBuf,
        /// Its passphrase.
        #[command(flatten)]
        secret: Secret,
    },
    /// Make a backup the store of this node, which takes the place of the node it was taken of: the same names, VIPs and
    /// ids come up when skepd is started.
    Restore {
        /// What `skepd backup` wrote.
        file: PathBuf,
        /// Its passphrase.
        #[command(flatten)]
        secret: Secret,
        /// Also where there are environments already; their store is kept beside the new one.
        #[arg(long)]
        replace: bool,
    },
    /// Several machines as one: see `skepd join`.
    Cluster {
        /// What to do.
        #[command(subcommand)]
        command: ClusterCommand,
    },
    /// Make this node one of a cluster: `skepctl nodes invite` on its first node prints the token.
    ///
    /// What runs in the cluster may run here from then on, and every service has the same name and address. The node must
    /// have no environments of its own.
    Join {
        /// The token, or `-` to read it from standard input.
        token: String,
    },
    /// Put a sound store in the place of a damaged one, out of its last good copy and of what runs.
    Repair {
        /// Have replicas removed that can't be taken back.
        #[arg(long)]
        forget: bool,
        /// Only tell what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Run the DNS forwarder alone. The daemon or the unit skepd-dns starts it, as a process of its own.
    #[command(hide = true)]
    Dns,
    /// Run the userspace WireGuard device alone. The daemon or the unit skepd-tunnel starts it, as a process of its own.
    #[command(hide = true)]
    Tunnel,
    /// Install Skep on this machine: programs, systemd units, the group `skep`, man pages, completions; start it.
    ///
    /// Does what is missing, and nothing when all is there. The units read /etc/default/skep, lines such as
    /// SKEP_VIP_POOL4=10.64.0.0/16.
    Install {
        /// Print what would be done; change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Leave it to the administrator's earlier choice whether the units start with the machine (for package upgrades).
        #[arg(long)]
        keep_enablement: bool,
        /// Place the files below this directory alone, and do nothing else (for packagers).
        #[arg(long, value_name = "DIR")]
        destdir: Option<PathBuf>,
    },
    /// Put this version in the place of the one that is installed and runs; if it does not come up, that one runs again.
    ///
    /// Run it by the new program: `./skepd upgrade`. Containers, connections and isolation go on meanwhile: maps are kept
    /// or copied, programs replaced behind their links. The way back to an older version is the same. Packages do this by
    /// themselves.
    Upgrade {
        /// Print what would be done; change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Print man pages and completions as JSON, file by file.
    #[command(hide = true)]
    Documents,
    /// Take everything of Skep off this machine: its containers, devices, programs, routes, rules and files.
    Uninstall {
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
        /// Take the state directory away as well: ids, addresses and what was wanted are forgotten.
        #[arg(long)]
        purge: bool,
    },
}

/// What is done with a cluster as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ClusterCommand {
    /// Make this node the first of a cluster: its state moves into an etcd of its own (Debian's etcd-server), which lets in
    /// nobody but nodes.
    Init {
        /// The program to run as etcd.
        #[arg(long, env = "SKEP_ETCD_PROGRAM", value_name = "PATH", default_value = "etcd")]
        etcd_program: PathBuf,
    },
}

/// Where the passphrase of a backup is; without the option, in SKEP_PASSPHRASE, or it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Secret {
    /// A file whose first line is the passphrase.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}
