//! Real databases are made with credentials that nobody saw, and their clients log in with a variable alone.

use anyhow::Result;
use tests::images::{self, Database, Image};

#[test]
fn smoke() -> Result<()> {
    images::ensure(&[Image::Clients, Image::Database(Database::Redis)])
}
