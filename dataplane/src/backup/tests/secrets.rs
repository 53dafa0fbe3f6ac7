//! A backup brings the credentials of databases to another machine, and nobody reads them on the way.

use std::os::unix::fs::PermissionsExt as _;

use clap::Parser as _;
use tempfile::TempDir;

use super::*;
use crate::config::Args;
use crate::model::secret::example;
use crate::model::{EnvironmentKey, KeptCredentials, ServiceKey};
use crate::store::schema::{self, Key};
use crate::store::{CLUSTER_KEY_FILE, Sealed, Txn};

/// A machine on which no daemon runs.
struct Machine {
    directory: TempDir,
    config: Config,
}

impl Machine {
    fn new(node: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let of = |name: &str| directory.path().join(name).display().to_string();
        let (state, run) = (of("state"), of("run"));
        let args = ["skepd", "--node-name", node, "--state-dir", &state, "--run-dir", &run];
        let config = Args::try_parse_from(args).unwrap().options.resolve().unwrap();
        make_directories(&config).unwrap();
        Self { directory, config }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn keep(&self, record: &KeptCredentials) {
        let store = Embedded::open(&self.config.store_file()).unwrap();
        let sealed = self.key().seal(&place(), record).unwrap();
        store.txn(Txn::default().put(&place(), &sealed).unwrap()).await.unwrap();
    }

    fn key(&self) -> ClusterKey {
        ClusterKey::open_or_make(&self.config.state_dir).unwrap()
    }

    /// What the machine's own key makes of what is in its store.
    async fn kept(&self) -> KeptCredentials {
        let store = Embedded::open(&self.config.store_file()).unwrap();
        let key = ClusterKey::of_store(&self.config.state_dir, &store).await.unwrap();
        let sealed = schema::get_json(&store, &place()).await.unwrap().unwrap();
        key.unseal(&place(), &sealed.value).unwrap()
    }
}

fn place() -> Key<Sealed<KeptCredentials>> {
    let environment = EnvironmentKey { project: "shop".into(), environment: "production".into() };
    schema::secret(&ServiceKey { environment, service: "postgres".into() })
}

#[tokio::test]
async fn the_same_credentials_come_up_on_an_empty_machine_and_in_the_place_of_others() {
    let passphrase = Passphrase::from("correct horse");
    let (one, empty, other) = (Machine::new("n1"), Machine::new("n2"), Machine::new("n3"));
    one.keep(&example("hunter2")).await;
    other.keep(&example("hunter3")).await;
    let file = one.file("backup");
    backup(&one.config, &file, &passphrase).await.unwrap();

    restore(&empty.config, &file, &passphrase, false).await.unwrap();
    assert_eq!(empty.kept().await, example("hunter2"));
    let key = std::fs::metadata(empty.config.state_dir.join(CLUSTER_KEY_FILE)).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);

    let own = other.key();
    restore(&other.config, &file, &passphrase, true).await.unwrap();
    assert_eq!((other.kept().await, other.key()), (example("hunter2"), own));

    // A backup of what was restored holds the same.
    let second = other.file("second");
    backup(&other.config, &second, &passphrase).await.unwrap();
    restore(&one.config, &second, &passphrase, true).await.unwrap();
    assert_eq!(one.kept().await, example("hunter2"));
}

#[tokio::test]
async fn a_backup_whose_secrets_nobody_could_read_is_not_made() {
    let passphrase = Passphrase::from("correct horse");
    let machine = Machine::new("n1");
    machine.keep(&example("hunter2")).await;
    let file = machine.file("backup");
    std::fs::remove_file(machine.config.state_dir.join(CLUSTER_KEY_FILE)).unwrap();
    let gone = backup(&machine.config, &file, &passphrase).await.unwrap_err();
    assert!(matches!(gone, BackupError::OtherKey { .. }) && gone.to_string().contains("--state-dir"), "{gone}");
    machine.key();
    let other = backup(&machine.config, &file, &passphrase).await.unwrap_err();
    assert!(matches!(other, BackupError::OtherKey { .. }), "{other}");
    assert!(!file.exists());
}

#[tokio::test]
async fn a_key_that_is_broken_or_missing_is_mended_by_a_restore_as_its_error_says() {
    let passphrase = Passphrase::from("correct horse");
    let machine = Machine::new("n1");
    machine.keep(&example("hunter2")).await;
    let file = machine.file("backup");
    backup(&machine.config, &file, &passphrase).await.unwrap();
    let key = machine.config.state_dir.join(CLUSTER_KEY_FILE);
    let breaks: [&dyn Fn(); 2] = [&|| std::fs::write(&key, "short").unwrap(), &|| std::fs::remove_file(&key).unwrap()];
    for break_it in breaks {
        break_it();
        restore(&machine.config, &file, &passphrase, true).await.unwrap();
        assert_eq!(machine.kept().await, example("hunter2"));
    }
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = restore(&machine.config, &file, &passphrase, true).await.unwrap_err();
    assert!(matches!(open, BackupError::ClusterKey(_)) && open.to_string().contains("chmod 600"), "{open}");
}
