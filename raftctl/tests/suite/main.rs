//! The client library and the command line against servers that follow a script.

#![expect(clippy::unwrap_used, reason = "a test that fails panics")]

mod cancel;
mod cli_cluster;
mod cli_complete;
mod cli_config;
mod cli_consent;
mod cli_contract;
mod cli_data;
mod cli_edit;
mod cli_errors;
mod cli_lead;
mod cli_load;
mod cli_members;
mod cli_rows;
mod cli_terminal;
mod cli_txn;
mod cli_wait;
mod client;
mod exactly_once;
mod fake;
mod gets;
mod limits;
mod obstacles;
mod pipeline;
mod reads;
mod run;
mod script;
