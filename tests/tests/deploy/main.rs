//! A service changes under load and nobody notices; what goes wrong leaves the version before serving.
//!
//! How many deployments in a row: `SKEP_DEPLOYMENTS`, else 100 with `SKEP_LONG`, else 10.

mod batches;
mod clients;
mod failures;
mod health;
mod requests;
mod rollback;
mod rolling;
mod stack;
mod steps;
