//! Who may come to etcd: a user for each node, by the common name of its certificate, and nobody else.
//!
//! A node that is removed loses its user, and its certificate is worth nothing from then on: hence no name is given twice.

use std::collections::BTreeSet;

use etcd_client::{AuthClient, Client, ConnectOptions, Permission, UserAddOptions};

use super::ClusterError;
use crate::random;

/// The role of nodes: all that is Skep's.
const NODE: &str = "skep";
/// etcd's own word for a role that is always there, and for the user without whom it asks nobody who they are.
const ROOT: &str = "root";
/// What the names of nodes' users begin with; others are their administrator's.
const START: &str = "node.";

/// etcd's users, changed as one who may.
pub(super) struct Users(AuthClient);

impl Users {
    /// By whichever of the members answers.
    ///
    /// # Errors
    /// [`ClusterError::Etcd`].
    pub(super) async fn connect(members: &[String], options: ConnectOptions) -> Result<Self, ClusterError> {
        Ok(Self(Client::connect(members, Some(options)).await?.auth_client()))
    }

    /// In an etcd that asks nobody yet: nodes may use what is under `prefix`, `founder` may everything, and from now on
    /// everybody is asked.
    ///
    /// # Errors
    /// [`ClusterError::Etcd`].
    pub(super) async fn begin(&mut self, prefix: &str, founder: &str) -> Result<(), ClusterError> {
        self.0.role_add(NODE).await?;
        let all = Permission::read_write(format!("{prefix}/")).with_prefix();
        self.0.role_grant_permission(NODE, all).await?;
        for user in [ROOT, founder] {
            self.add(user).await?;
            self.0.user_grant_role(user, ROOT).await?;
        }
        self.0.auth_enable().await?;
        Ok(())
    }

    /// Lets a node come.
    ///
    /// # Errors
    /// [`ClusterError::Etcd`].
    pub(super) async fn admit(&mut self, user: &str) -> Result<(), ClusterError> {
        self.add(user).await?;
        self.0.user_grant_role(user, NODE).await?;
        Ok(())
    }

    /// Lets no node come that is not among those `admitted`; gives those who came until now.
    ///
    /// # Errors
    /// [`ClusterError::Etcd`].
    pub(super) async fn keep_only(&mut self, admitted: &BTreeSet<String>) -> Result<Vec<String>, ClusterError> {
        let users = self.0.user_list().await?;
        let users = users.users().iter().filter(|user| user.starts_with(START) && !admitted.contains(*user));
        let users: Vec<String> = users.cloned().collect();
        for user in &users {
            self.0.user_delete(user.as_str()).await?;
        }
        Ok(users)
    }

    /// Nobody comes by a password.
    async fn add(&mut self, user: &str) -> Result<(), ClusterError> {
        self.0.user_add(user, "", Some(UserAddOptions::new().with_no_pwd())).await?;
        Ok(())
    }
}

/// A name for a node's user that no other was ever given.
///
/// # Errors
/// [`ClusterError::Random`].
pub(super) fn name(node: &str) -> Result<String, ClusterError> {
    let once: [u8; 8] = random::octets()?;
    Ok(format!("{START}{node}.{:016x}", u64::from_be_bytes(once)))
}
