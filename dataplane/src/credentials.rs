//! Credentials of databases: generated once, given to the database, and to the services that use it as a URL. All of it
//! is pure: what is kept lies sealed in the store ([`crate::store::seal`]).
//!
//! **Who gets what.** A database of a known image ([`crate::model::Kind`]) gets user, password and database name in the variables that
//! its image reads. Every service that shares a network with it, and is no database or cache itself, gets its URL, twice:
//!
//! | image | for each such service | for one of them |
//! |---|---|---|
//! | postgres | `<SERVICE>_DATABASE_URL` | `DATABASE_URL` |
//! | mysql, mariadb | `<SERVICE>_MYSQL_URL` | `MYSQL_URL` |
//! | mongo | `<SERVICE>_MONGODB_URL` | `MONGODB_URL` |
//! | redis, valkey | `<SERVICE>_REDIS_URL` | `REDIS_URL` |
//!
//! The short name is of the database that is named like what it is (`postgres`, `postgresql`; `mysql`, `mariadb`; `mongo`,
//! `mongodb`; `redis`, `valkey`), else of the first by name; always among those that the service shares a network with. A
//! link `backend:api` gives `API_URL`: the URL of a database, or `http://backend.internal:<port>` if the port is known
//! (`x-skep.port`, or a variable `PORT` of the backend). `PORT` is `x-skep.port`.
//!
//! **What the user said holds.** A variable that a service has is never written over, an empty one neither. A
//! database's own variables are filled up: a password that is missing is generated; who gives a user or a password, and
//! leaves the rest out, gets the rest as the image has it (`postgres`: the user `postgres`, and a database named like the
//! user; `mysql`: `root`, if only its password is given). What is read from a file or given as a hash is not known here:
//! no URL then. `x-skep.type: service` keeps a database or cache out of all this, as does an image of Bitnami's, which reads other
//! variables.
//!
//! **No password** has a `mongo` that would not start with one (a member of a replica set wants a key file), or that
//! somebody in the environment addresses without one (`mongodb://mongo/…`); nor a cache, unless its command says
//! `--requirepass`, or `x-skep.password` asks for one.

mod access;
mod cache;
mod generate;
mod kinds;
mod open;
mod own;
mod rotate;
mod variables;

pub use access::Access;
pub use cache::command;
pub use generate::{missing, password};
pub use own::{access, is_generated};
pub use rotate::{RotateError, Statement};
pub use variables::{Injected, Origin, Variables, variables};

#[cfg(test)]
mod tests;
